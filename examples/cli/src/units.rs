//! Bytes, as people write and read them.

use std::num::NonZeroU64;

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

/// Reads `36h`, `14d`, `8w`; gives seconds. A day has 24 hours. Months differ, so they are none.
pub fn parse_span(text: &str) -> Result<u64, String> {
    let bad = || format!("{text:?} is no span of time; write 36h, 14d or 8w");
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(bad)?;
    let seconds: u64 = match unit {
        "h" => 3_600,
        "d" => 86_400,
        "w" => 604_800,
        _ => return Err(bad()),
    };
    let number: u64 = number.parse().map_err(|_| bad())?;
    number.checked_mul(seconds).filter(|seconds| *seconds > 0).ok_or_else(bad)
}

/// Reads bytes a second: a bare number counts KiB, as it does elsewhere.
pub fn parse_rate(text: &str) -> Result<NonZeroU64, String> {
    let bare = !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit());
    let bytes = if bare { parse_bytes(&format!("{text}K"))? } else { parse_bytes(text)? };
    NonZeroU64::new(bytes)
        .ok_or_else(|| "a rate of nothing moves nothing; leave the option out for no limit".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_as_the_manual_says() {
        for (text, seconds) in [("1h", 3600), ("36h", 129_600), ("14d", 1_209_600), ("8w", 4_838_400)] {
            assert_eq!(parse_span(text), Ok(seconds), "{text}");
        }
        for bad in [
            "",
            "d",
            "14",
            "0d",
            "-1d",
            "1.5d",
            "1m",
            "2 d",
            "1D",
            "99999999999999999999d",
            "18446744073709551615w",
            "1é",
        ] {
            assert!(parse_span(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_are_read_as_the_manual_says() {
        for (text, bytes) in
            [("0", 0), ("4096", 4096), ("64K", 65536), ("10MiB", 10 << 20), ("2GB", 2 << 30), ("1t", 1 << 40)]
        {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
        for (text, bytes) in [("512", 512 << 10), ("512B", 512), ("10M", 10 << 20), ("1GiB", 1 << 30)] {
            assert_eq!(parse_rate(text).map(NonZeroU64::get), Ok(bytes), "{text}");
        }
        for bad in ["", "0", "0M", "M", "1.5M", "18446744073709551615"] {
            assert!(parse_rate(bad).is_err(), "{bad}");
        }
        for bad in ["", "K", "-1", "1.5G", "1X", "99999999999999999999", "16777216T"] {
            assert!(parse_bytes(bad).is_err(), "{bad}");
        }
    }
}
