//! Memory aligned for vectors.

use optc_ir::ExecError;

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
        let refused = |_| ExecError::Backend(format!("{} bytes of memory refused", len.saturating_mul(4)));
        let mut numbers = Vec::new();
        numbers.try_reserve_exact(len.saturating_add(SLACK)).map_err(refused)?;
        numbers.resize(len + SLACK, 0.0);
        let start = numbers.as_ptr().align_offset(ALIGN).min(SLACK);
        Ok(Memory { numbers, start, len })
    }

    pub(crate) fn numbers(&self) -> &[f32] {
        &self.numbers[self.start..self.start + self.len]
    }

    pub(crate) fn numbers_mut(&mut self) -> &mut [f32] {
        &mut self.numbers[self.start..self.start + self.len]
    }

    /// The address of the first number, exposed so that kernels may make a pointer of it.
    pub(crate) fn address(&mut self) -> usize {
        self.numbers_mut().as_mut_ptr().expose_provenance()
    }
}
