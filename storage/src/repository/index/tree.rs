//! The hash tree over the sealed pages.
//!
//! Leaves are BLAKE3 of a sealed page, a node is BLAKE3 of its two children (64 bytes), a child that is missing is 32 zero
//! bytes. The number of pages fixes the depth, so a node cannot pass for a leaf.

use backstay_core::Result;

use super::damaged;

pub(super) type Hash = [u8; 32];

const MISSING: Hash = [0; 32];

/// Levels above the leaves: ⌈log2 pages⌉.
pub(super) const fn depth(pages: usize) -> usize {
    pages.next_power_of_two().trailing_zeros() as usize
}

/// All levels, the leaves first.
pub(super) struct Tree(Vec<Vec<Hash>>);

impl Tree {
    pub fn new(leaves: Vec<Hash>) -> Self {
        let mut levels = Vec::with_capacity(depth(leaves.len()) + 1);
        let mut level = leaves;
        while level.len() > 1 {
            let above = level.chunks(2).map(|pair| node(&pair[0], pair.get(1).unwrap_or(&MISSING))).collect();
            levels.push(std::mem::replace(&mut level, above));
        }
        levels.push(level);
        Self(levels)
    }

    pub fn root(&self) -> Hash {
        self.0.last().and_then(|level| level.first()).copied().unwrap_or(MISSING)
    }

    /// The hashes beside the way from a leaf to the root, from below.
    pub fn path(&self, leaf: usize) -> impl Iterator<Item = &Hash> {
        let below_root = &self.0[..self.0.len() - 1];
        below_root.iter().enumerate().map(move |(height, level)| level.get((leaf >> height) ^ 1).unwrap_or(&MISSING))
    }
}

/// Fails unless `path` leads from the sealed page to the root.
pub(super) fn verify(root: &Hash, page: u32, sealed: &[u8], path: &[u8]) -> Result<()> {
    if root_of(page, sealed, path) == *root {
        Ok(())
    } else {
        Err(damaged("A page of an index segment is damaged").with_context("page", page))
    }
}

/// The root that a path leads to.
pub(super) fn root_of(page: u32, sealed: &[u8], path: &[u8]) -> Hash {
    let mut hash = *blake3::hash(sealed).as_bytes();
    let (path, _) = path.as_chunks();
    for (height, beside) in path.iter().enumerate() {
        let left = (page >> height) & 1 == 0;
        hash = if left { node(&hash, beside) } else { node(beside, &hash) };
    }
    hash
}

fn node(left: &Hash, right: &Hash) -> Hash {
    let mut both = [0; 64];
    both[..32].copy_from_slice(left);
    both[32..].copy_from_slice(right);
    *blake3::hash(&both).as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_is_proved_and_no_other_page_is() {
        for pages in 1..20_u32 {
            let tree = Tree::new((0..pages).map(|page| *blake3::hash(&page.to_le_bytes()).as_bytes()).collect());
            for page in 0..pages {
                let path: Vec<u8> = tree.path(page as usize).flatten().copied().collect();
                assert_eq!(path.len(), 32 * depth(pages as usize));
                for other in 0..pages {
                    let proved = verify(&tree.root(), page, &other.to_le_bytes(), &path).is_ok();
                    assert_eq!(proved, page == other);
                }
            }
        }
    }
}
