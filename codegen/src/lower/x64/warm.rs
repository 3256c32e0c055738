//! Bringing code and numbers near: one read for each cache line, none of which waits for another.

use iced_x86::{Code, Instruction, MemoryOperand, Register};

use super::{Assembler, COUNTERS, POINTERS, SCRATCH_64, counter_32};
use crate::tile::P;

/// Bytes of a cache line.
const LINE: usize = 64;

impl Assembler {
    /// Reads every line of the code being written, and of so many bytes after a pointer.
    pub(super) fn warm(&mut self, p: P, bytes: usize, depth: usize) {
        let counter = counter_32(COUNTERS[depth]);
        // Code begins at the beginning of a line.
        let start = MemoryOperand::new(Register::RIP, Register::None, 1, 0, 8, false, Register::None);
        self.emit(Instruction::with2(Code::Lea_r64_m, SCRATCH_64, start));
        // How many lines there are is known when all is written.
        self.emit(Instruction::with2(Code::Mov_r32_imm32, counter, u32::MAX));
        self.lines.push(self.at - 4);
        self.read_lines(counter);
        if bytes > 0 {
            let lines = u32::try_from(bytes.div_ceil(LINE)).expect("a tile spans less than 2 GiB");
            self.emit(Instruction::with2(Code::Mov_r64_rm64, SCRATCH_64, POINTERS[usize::from(p.0)]));
            self.emit(Instruction::with2(Code::Mov_r32_imm32, counter, lines));
            self.read_lines(counter);
        }
    }

    /// Reads a byte of as many lines as the counter says.
    fn read_lines(&mut self, counter: Register) {
        let head = self.at as u64;
        let byte = MemoryOperand::with_base(SCRATCH_64);
        self.emit(Instruction::with2(Code::Cmp_rm8_imm8, byte, 0));
        self.emit(Instruction::with2(Code::Add_rm64_imm8, SCRATCH_64, 64));
        self.emit(Instruction::with2(Code::Sub_rm32_imm8, counter, 1));
        self.emit(Instruction::with_branch(Code::Jne_rel32_64, head));
    }
}

/// Fills in how many lines all code and its numbers are.
pub(super) fn fill_in(bytes: &mut [u8], places: &[usize]) {
    let lines = u32::try_from(bytes.len().div_ceil(LINE)).expect("code is short");
    for &at in places {
        bytes[at..at + 4].copy_from_slice(&lines.to_le_bytes());
    }
}
