//! Memory aligned for vectors.

use optc_ir::ExecError;

use crate::tile::LANES;

/// Alignment, in bytes: a cache line.
pub(crate) const ALIGN: usize = 64;

const SLACK: usize = ALIGN / 4;

/// Numbers that begin at a cache line and never move.
#[derive(Debug)]
pub(crate) struct Memory {
    numbers: Vec<f32>,
    start: usize,
    len: usize,
}

impl Memory {
    /// So many zeros.
    ///
    /// # Errors
    /// If the machine has no room for them.
    pub(crate) fn zeroed(len: usize) -> Result<Memory, ExecError> {
        Memory::written(len, |_| {})
    }

    /// The numbers that `write` appends, at most `len`; zeros behind them. Nothing is written twice, since
    /// memory that is new costs as much to touch as to fill.
    ///
    /// # Errors
    /// If the machine has no room for them.
    pub(crate) fn written(len: usize, write: impl FnOnce(&mut Vec<f32>)) -> Result<Memory, ExecError> {
        let refused = |_| ExecError::Backend(format!("{} bytes of memory refused", len.saturating_mul(4)));
        let mut numbers: Vec<f32> = Vec::new();
        numbers.try_reserve_exact(len.saturating_add(SLACK)).map_err(refused)?;
        let start = numbers.as_ptr().align_offset(ALIGN).min(SLACK);
        numbers.resize(start, 0.0);
        write(&mut numbers);
        assert!(numbers.len() <= start + len, "{} numbers written, {len} announced", numbers.len() - start);
        numbers.resize(start + len, 0.0);
        Ok(Memory { numbers, start, len })
    }

    /// A copy of numbers, up to a whole vector: kernels may read the one that the last number is in.
    ///
    /// # Errors
    /// As [`Memory::zeroed`].
    pub(crate) fn copy(numbers: &[f32]) -> Result<Memory, ExecError> {
        Memory::written(numbers.len().next_multiple_of(LANES), |to| to.extend_from_slice(numbers))
    }

    pub(crate) fn numbers(&self) -> &[f32] {
        &self.numbers[self.start..self.start + self.len]
    }

    pub(crate) fn numbers_mut(&mut self) -> &mut [f32] {
        &mut self.numbers[self.start..self.start + self.len]
    }

    /// The address of the first number, exposed so that kernels may make a pointer of it to read from.
    pub(crate) fn read_address(&self) -> usize {
        self.numbers().as_ptr().expose_provenance()
    }

    /// The address of the first number, exposed so that kernels may make a pointer of it.
    pub(crate) fn address(&mut self) -> usize {
        self.numbers_mut().as_mut_ptr().expose_provenance()
    }
}
