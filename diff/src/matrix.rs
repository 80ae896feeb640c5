//! Effect against effect: the one table that holds every decision point exactly once.

use serde::{Deserialize, Serialize};
use verdict_ledger::event::Effect;

/// Rows and columns: the six effects from most to least permissive, then `unknown`.
pub const LABELS: [&str; 7] =
    ["no_op", "allow", "dry_run", "require_approval", "cooldown", "block", "unknown"];

/// Decision points by effect before (row) and after (column).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Matrix {
    /// Counts, `cells[from][to]`, in the order of [`LABELS`].
    cells: [[u64; 7]; 7],
}

impl Matrix {
    /// Counts one point.
    pub(crate) fn add(&mut self, from: Option<Effect>, to: Option<Effect>) {
        if let Some(cell) = self.cells.get_mut(index(from)).and_then(|row| row.get_mut(index(to))) {
            *cell += 1;
        }
    }

    /// Returns how many points went from one effect to another; `None` is `unknown`.
    pub fn count(&self, from: Option<Effect>, to: Option<Effect>) -> u64 {
        self.cells.get(index(from)).and_then(|row| row.get(index(to))).copied().unwrap_or_default()
    }

    /// Returns label and counts of each row.
    pub fn rows(&self) -> impl Iterator<Item = (&'static str, &[u64; 7])> {
        LABELS.into_iter().zip(&self.cells)
    }

    /// Returns the sum of all cells, which is the number of points.
    pub fn total(&self) -> u64 {
        self.cells.iter().flatten().sum()
    }

    /// Returns the matrix with the sides swapped.
    #[must_use]
    pub fn transposed(&self) -> Self {
        let mut out = Self::default();
        for (row, counts) in self.cells.iter().enumerate() {
            for (column, count) in counts.iter().enumerate() {
                if let Some(cell) = out.cells.get_mut(column).and_then(|cells| cells.get_mut(row)) {
                    *cell = *count;
                }
            }
        }
        out
    }
}

const fn index(effect: Option<Effect>) -> usize {
    match effect {
        Some(Effect::NoOp) => 0,
        Some(Effect::Allow) => 1,
        Some(Effect::DryRun) => 2,
        Some(Effect::RequireApproval) => 3,
        Some(Effect::Cooldown) => 4,
        Some(Effect::Block) => 5,
        None => 6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_follow_the_lattice_and_every_effect_has_its_own_cell() {
        let mut matrix = Matrix::default();
        for (position, effect) in Effect::ALL.into_iter().enumerate() {
            assert_eq!(LABELS[position], effect.as_str());
            matrix.add(Some(effect), None);
        }
        matrix.add(None, Some(Effect::Block));
        assert_eq!(matrix.total(), 7);
        assert!(Effect::ALL.into_iter().all(|effect| matrix.count(Some(effect), None) == 1));
        assert_eq!(matrix.transposed().count(Some(Effect::Block), None), 1);
        assert_eq!(matrix.transposed().count(None, Some(Effect::Block)), 1);
        assert_eq!(matrix.transposed().transposed(), matrix);
    }
}
