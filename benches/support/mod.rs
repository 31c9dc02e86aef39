//! What the benchmarks share: content, keys, a cipher of index pages.

#![allow(dead_code, clippy::unwrap_used)]

use std::sync::Arc;

use backstay::{
    Context, Result,
    repository::{
        crypto::{Domain, aead},
        index::{PageCipher, Part},
    },
};
use backstay_testkit::{SeededRandom, noise};

pub const DOMAIN: Domain = Domain { repository: [1; 16], epoch: 0 };

/// Lines of a log, as many bytes as are wanted.
pub fn text(len: usize) -> Vec<u8> {
    const WORDS: [&str; 12] = [
        "accepted", "closed", "cron", "daemon", "error", "from", "kernel", "opened", "request", "session", "user",
        "web",
    ];
    let random = SeededRandom::new(7);
    let mut text = Vec::with_capacity(len + 128);
    while text.len() < len {
        text.extend_from_slice(
            format!("2026-11-20T10:00:{:02} app[{}]:", random.below(60), random.below(30_000)).as_bytes(),
        );
        for _ in 0..4 + random.below(8) {
            text.push(b' ');
            text.extend_from_slice(WORDS[random.below(12) as usize].as_bytes());
        }
        text.push(b'\n');
    }
    text.truncate(len);
    text
}

/// Half text, a quarter noise, a quarter zeroes, in pieces of 1 MiB: a guest's disk in small.
pub fn mixed(len: usize) -> Vec<u8> {
    const PIECE: usize = 1 << 20;
    let (mut disk, text) = (vec![0; len], text(len / 2 + PIECE));
    for (number, piece) in disk.chunks_mut(PIECE).enumerate() {
        match number % 4 {
            0 | 2 => piece.copy_from_slice(&text[number / 2 * PIECE..][..piece.len()]),
            1 => piece.copy_from_slice(&noise(number as u64, piece.len())),
            _ => {}
        }
    }
    disk
}

/// Seals pages as the repository does: XChaCha20-Poly1305 under a key of the segment.
pub struct Cipher(pub [u8; 32]);

impl PageCipher for Cipher {
    fn seal(&self, what: Part, plain: &[u8]) -> Result<Vec<u8>> {
        let nonce = nonce(what);
        let mut sealed = nonce.to_vec();
        sealed.extend_from_slice(plain);
        aead::seal_tail(&self.0, &nonce, &[], &mut sealed, nonce.len())?;
        Ok(sealed)
    }

    fn open(&self, what: Part, sealed: &[u8]) -> Result<Vec<u8>> {
        let mut sealed = sealed[aead::NONCE_BYTES..].to_vec();
        let opened = aead::open_in_place(&self.0, &nonce(what), &[], &mut sealed)?;
        opened.map(|plain| plain.to_vec()).ok_or_else(|| backstay::Error::integrity("A page does not open"))
    }
}

fn nonce(what: Part) -> [u8; aead::NONCE_BYTES] {
    let mut nonce = [0; aead::NONCE_BYTES];
    match what {
        Part::Page(number) => nonce[..4].copy_from_slice(&number.to_le_bytes()),
        Part::Footer => nonce[8] = 1,
    }
    nonce
}

/// The id of a chunk, as even as a hash.
pub fn id(number: u64) -> [u8; 32] {
    let random = SeededRandom::new(number.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ 0x5eed);
    let mut id = [0; 32];
    id.chunks_mut(8).for_each(|part| part.copy_from_slice(&random.next().to_le_bytes()));
    id
}

pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap()
}

pub fn ctx() -> Context {
    Context::default().with_random(Arc::new(SeededRandom::new(1)))
}
