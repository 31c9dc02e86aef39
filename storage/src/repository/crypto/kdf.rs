//! Argon2id (RFC 9106): from a passphrase to 32 secret bytes.

use argon2::{Algorithm, Argon2, Params, Version};
use backstay_core::{Error, Result};
use zeroize::Zeroizing;

/// The cost of a guess, as written in a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
pub struct KdfParameters {
    /// Memory in KiB.
    #[n(0)]
    pub memory_kib: u32,
    /// Passes.
    #[n(1)]
    pub passes: u32,
    /// Lanes.
    #[n(2)]
    pub lanes: u32,
}

impl Default for KdfParameters {
    /// 64 MiB, 3 passes, 1 lane.
    fn default() -> Self {
        Self { memory_kib: 64 << 10, passes: 3, lanes: 1 }
    }
}

impl KdfParameters {
    /// The most memory that a slot may ask for: 1 GiB.
    pub const MAX_MEMORY_KIB: u32 = 1 << 20;
    /// The most passes that a slot may ask for.
    pub const MAX_PASSES: u32 = 16;
    /// The most lanes that a slot may ask for.
    pub const MAX_LANES: u32 = 16;

    /// Refuses what a hostile slot could ask for to exhaust this machine, and what is too weak to be one of ours.
    pub fn check(&self) -> Result<()> {
        let fine = (self.lanes.max(1).saturating_mul(8)..=Self::MAX_MEMORY_KIB).contains(&self.memory_kib)
            && (1..=Self::MAX_PASSES).contains(&self.passes)
            && (1..=Self::MAX_LANES).contains(&self.lanes);
        if fine {
            return Ok(());
        }
        Err(Error::integrity(format!(
            "A key slot asks for Argon2id with {} KiB, {} passes, {} lanes; at most {} KiB, {} passes and {} lanes are \
             accepted. The slot was not written by Backstay: use another one and remove it",
            self.memory_kib,
            self.passes,
            self.lanes,
            Self::MAX_MEMORY_KIB,
            Self::MAX_PASSES,
            Self::MAX_LANES
        )))
    }

    /// Derives the secret. Takes tens of milliseconds and [`Self::memory_kib`]: run it as a CPU job.
    pub fn derive(&self, passphrase: &[u8], salt: &[u8; 16]) -> Result<Zeroizing<[u8; 32]>> {
        self.check()?;
        let refused = |_| Error::internal("Argon2id refused its parameters");
        let parameters = Params::new(self.memory_kib, self.passes, self.lanes, Some(32)).map_err(refused)?;
        let mut secret = Zeroizing::new([0; 32]);
        Argon2::new(Algorithm::Argon2id, Version::V0x13, parameters)
            .hash_password_into(passphrase, salt, &mut *secret)
            .map_err(refused)?;
        Ok(secret)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_beyond_the_bounds_are_refused_before_any_memory_is_taken() {
        let fine = KdfParameters::default();
        assert!(fine.check().is_ok());
        for bad in [
            KdfParameters { memory_kib: KdfParameters::MAX_MEMORY_KIB + 1, ..fine },
            KdfParameters { passes: 17, ..fine },
            KdfParameters { passes: 0, ..fine },
            KdfParameters { lanes: 17, ..fine },
            KdfParameters { lanes: 0, ..fine },
            KdfParameters { memory_kib: 0, ..fine },
        ] {
            assert!(bad.derive(b"x", &[0; 16]).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn argon2id_gives_what_the_reference_program_gives() {
        // echo -n password | argon2 somesaltsomesalt -id -k 64 -t 3 -p 1 -r
        let small = KdfParameters { memory_kib: 64, passes: 3, lanes: 1 };
        let secret = small.derive(b"password", b"somesaltsomesalt").unwrap();
        assert_eq!(hex::encode(*secret), "6164c739a04e17de34a80bee65c6a58f4b8a240cbf5652f4a79e35ae02b7c616");
    }
}
