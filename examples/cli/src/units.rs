//! Bytes, as people write and read them.

use indicatif::BinaryBytes;

/// `1.5 GiB`.
pub fn bytes(count: u64) -> String {
    BinaryBytes(count).to_string()
}

/// Reads `4096`, `64K`, `10M`, `2G`, `1T`: powers of 1024, with or without `iB` or `B`.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit.trim_end_matches("iB").trim_end_matches('B') {
        "" => 0,
        "K" | "k" => 10,
        "M" | "m" => 20,
        "G" | "g" => 30,
        "T" | "t" => 40,
        _ => return Err(format!("{text:?} is no number of bytes; write 4096, 64K, 10M, 2G or 1T")),
    };
    let number: u64 = number.parse().map_err(|_| format!("{text:?} is no number of bytes"))?;
    number.checked_mul(1 << shift).ok_or_else(|| format!("{text:?} is too much"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_the_manual_says() {
        for (text, bytes) in
            [("0", 0), ("4096", 4096), ("64K", 65536), ("10MiB", 10 << 20), ("2GB", 2 << 30), ("1t", 1 << 40)]
        {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
        for bad in ["", "K", "-1", "1.5G", "1X", "99999999999999999999", "16777216T"] {
            assert!(parse_bytes(bad).is_err(), "{bad}");
        }
    }
}
