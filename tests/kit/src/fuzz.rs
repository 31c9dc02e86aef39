//! A smoke run of a fuzz target without a fuzzer: seeded mutations of known inputs.
//!
//! It finds what is shallow (a slice out of bounds, an overflow, an allocation by a hostile length) in seconds, on the stable
//! compiler, the same at every run. What is deep is for a fuzzer that watches the coverage, with the same body.

use std::{
    fmt::Write,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    time::{Duration, Instant},
};

use crate::SeededRandom;

/// No mutated input is longer.
const LONGEST: usize = 1 << 20;

/// How long a smoke run of one target takes: `BACKSTAY_FUZZ_SECONDS`, 2 without it.
#[must_use]
pub fn smoke_time() -> Duration {
    let seconds = std::env::var("BACKSTAY_FUZZ_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    Duration::from_secs(seconds.unwrap_or(2))
}

/// Runs `body` on every seed as it is, then on mutations until `time` is over, and gives how many inputs it saw. A panic in
/// the body prints the input, as hex, and goes on up. At least 100 mutations are tried however slow the machine is.
pub fn smoke(seeds: &[Vec<u8>], time: Duration, body: impl Fn(&[u8])) -> u64 {
    let started = Instant::now();
    let random = SeededRandom::new(0x5eed);
    let empty = vec![Vec::new()];
    let seeds = if seeds.is_empty() { &empty } else { seeds };
    seeds.iter().for_each(|seed| run(&body, seed));
    let mut inputs = seeds.len() as u64;
    for mutation in 0u64.. {
        if mutation >= 100 && started.elapsed() >= time {
            break;
        }
        let mut input = pick(seeds, &random).clone();
        for _ in 0..=random.below(6) {
            mutate(&mut input, pick(seeds, &random), &random);
        }
        input.truncate(LONGEST);
        run(&body, &input);
        inputs += 1;
    }
    inputs
}

fn run(body: &impl Fn(&[u8]), input: &[u8]) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| body(input))) {
        let shown = input.iter().take(4096).fold(String::new(), |mut hex, byte| {
            let _infallible = write!(hex, "{byte:02x}");
            hex
        });
        eprintln!("the fuzz target panicked on {} bytes (at most 4096 shown): {shown}", input.len());
        resume_unwind(panic);
    }
}

fn pick<'a>(seeds: &'a [Vec<u8>], random: &SeededRandom) -> &'a Vec<u8> {
    &seeds[random.below(seeds.len() as u64) as usize]
}

/// Numbers that lengths, counts and offsets go wrong at.
const EDGES: [u64; 9] = [0, 1, 0x7f, 0xff, 0x7fff_ffff, 0xffff_ffff, 1 << 32, u64::MAX >> 1, u64::MAX];

fn mutate(input: &mut Vec<u8>, other: &[u8], random: &SeededRandom) {
    let len = input.len() as u64;
    let at = random.below(len.max(1)) as usize;
    let range = random.range(len, 64);
    let range = range.start as usize..range.end as usize;
    match random.below(9) {
        0 if !input.is_empty() => input[at] ^= 1 << random.below(8),
        1 if !input.is_empty() => input[at] = random.next() as u8,
        2 => input.truncate(at),
        3 => drop(input.drain(range)),
        4 => {
            let copy = input[range].to_vec();
            input.splice(at.min(input.len())..at.min(input.len()), copy);
        }
        5 => {
            let noise: Vec<_> = (0..random.below(40)).map(|_| random.next() as u8).collect();
            input.splice(range, noise);
        }
        6 => {
            // The rest of another seed, from the same place on.
            input.truncate(at);
            input.extend_from_slice(other.get(at..).unwrap_or_default());
        }
        _ => overwrite_number(input, at, random),
    }
}

/// An edge, or what is there give or take a little, as a number of 1 to 8 bytes in either order.
fn overwrite_number(input: &mut [u8], at: usize, random: &SeededRandom) {
    let width = 1 << random.below(4);
    let Some(place) = input.get_mut(at..at + width) else { return };
    let big = random.below(2) == 0;
    let mut bytes = [0; 8];
    bytes[..width].copy_from_slice(place);
    if big {
        bytes[..width].reverse();
    }
    let near = u64::from_le_bytes(bytes).wrapping_add(random.below(33)).wrapping_sub(16);
    let number = if random.below(2) == 0 { near } else { EDGES[random.below(EDGES.len() as u64) as usize] };
    bytes = number.to_le_bytes();
    if big {
        bytes[..width].reverse();
    }
    place.copy_from_slice(&bytes[..width]);
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// A length, then that many bytes: with the mistake that the length is believed.
    fn careless(input: &[u8]) {
        if let Some((len, rest)) = input.split_first_chunk() {
            let _body = &rest[..u32::from_be_bytes(*len) as usize];
        }
    }

    #[test]
    fn a_shallow_mistake_is_found() {
        let seeds = [b"\0\0\0\x05hello".to_vec()];
        assert!(catch_unwind(|| smoke(&seeds, Duration::from_millis(200), careless)).is_err());
    }

    #[test]
    fn a_run_is_the_same_every_time_and_every_seed_comes_as_it_is() {
        let seeds = [b"one".to_vec(), b"three".to_vec()];
        let inputs = || {
            let seen = Mutex::new(Vec::new());
            smoke(&seeds, Duration::ZERO, |input| seen.lock().unwrap().push(input.to_vec()));
            seen.into_inner().unwrap()
        };
        let first = inputs();
        assert_eq!(first.len(), 102);
        assert_eq!(first[..2], seeds);
        assert_eq!(first, inputs());
        assert_eq!(smoke(&[], Duration::ZERO, |_| {}), 101, "no seeds will do");
    }
}
