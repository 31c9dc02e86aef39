//! The names of what a repository holds. All are 32 bytes; none of them can be mistaken for another.

use std::fmt;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub [u8; 32]);

        impl $name {
            /// Its bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }

            /// 64 hex digits.
            #[must_use]
            pub fn to_hex(self) -> String {
                hex::encode(self.0)
            }

            /// From 64 hex digits; `None` when it is anything else.
            #[must_use]
            pub fn from_hex(text: &str) -> Option<Self> {
                let mut bytes = [0; 32];
                hex::decode_to_slice(text, &mut bytes).ok()?;
                Some(Self(bytes))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), &self.to_hex()[..16])
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.to_hex())
            }
        }

        impl<C> minicbor::Encode<C> for $name {
            fn encode<W: minicbor::encode::Write>(
                &self,
                e: &mut minicbor::Encoder<W>,
                _ctx: &mut C,
            ) -> Result<(), minicbor::encode::Error<W::Error>> {
                e.bytes(&self.0)?.ok()
            }
        }

        impl<'b, C> minicbor::Decode<'b, C> for $name {
            fn decode(d: &mut minicbor::Decoder<'b>, _ctx: &mut C) -> Result<Self, minicbor::decode::Error> {
                let bytes = d.bytes()?;
                bytes.try_into().map(Self).map_err(|_| minicbor::decode::Error::message("an id has 32 bytes"))
            }
        }
    )*};
}

ids! {
    /// Content of a chunk: a keyed hash over its length and the hashes of its blocks. Never stands in clear.
    ChunkId,
    /// A pack: the hash of all its bytes, 16 random ones among them, so that no id comes twice.
    PackId,
    /// An index segment: the hash of its sealed footer, which holds the hashes of its pages.
    SegmentId,
    /// A node of a disk map: a keyed hash over its encoding. Never stands in clear.
    NodeId,
    /// The BLAKE3 hash of a whole object, as records that commit to it write it down.
    ObjectHash,
    /// An Ed25519 public key: who signed.
    SignerId,
}
