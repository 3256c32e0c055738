//! Machine code of tile programs as text, in the syntax of NASM.
//!
//! Places have labels, so that the text is the same wherever the code lies. Numbers behind the code are listed
//! as such.

use std::fmt::Write;

use iced_x86::{
    Decoder, DecoderOptions, Formatter, Instruction, Mnemonic, NasmFormatter, OpKind, SymbolResolver, SymbolResult,
};

/// The bytes of a program, taken apart.
pub(super) struct Parts<'a> {
    /// Up to the return.
    pub(super) code: Vec<Instruction>,
    /// Where the numbers begin.
    pub(super) pool: usize,
    /// The numbers behind the code.
    pub(super) numbers: &'a [u8],
}

/// Takes the bytes of a program apart, which begin at address 0.
pub(super) fn parts(bytes: &[u8]) -> Parts<'_> {
    let mut code = Vec::new();
    for instruction in &mut Decoder::with_ip(64, bytes, 0, DecoderOptions::NONE) {
        code.push(instruction);
        if instruction.mnemonic() == Mnemonic::Ret {
            break;
        }
    }
    let end = code.last().map_or(0, |last| usize::try_from(last.next_ip()).expect("code is short"));
    let pool = end.next_multiple_of(4).min(bytes.len());
    Parts { code, pool, numbers: &bytes[pool..] }
}

struct Labels {
    /// The beginnings of loops.
    heads: Vec<u64>,
    pool: u64,
}

impl Labels {
    fn head(&self, at: u64) -> Option<String> {
        self.heads.iter().position(|&head| head == at).map(|i| format!("loop{i}"))
    }
}

impl SymbolResolver for Labels {
    fn symbol(
        &mut self,
        instruction: &Instruction,
        _: u32,
        operand: Option<u32>,
        at: u64,
        _: u32,
    ) -> Option<SymbolResult<'_>> {
        // Displacements from registers, and immediates, are no places.
        let label = match instruction.op_kind(operand?) {
            OpKind::NearBranch64 => self.head(at)?,
            OpKind::Memory if instruction.is_ip_rel_memory_operand() => {
                format!("numbers+{}", at.checked_sub(self.pool)?)
            }
            _ => return None,
        };
        Some(SymbolResult::with_string(at, label))
    }
}

/// The text of a program's bytes: one instruction a line.
pub(crate) fn disassemble(bytes: &[u8]) -> String {
    let Parts { code, pool, numbers } = parts(bytes);
    let mut heads: Vec<u64> = code.iter().filter(|i| i.is_jcc_near()).map(Instruction::near_branch_target).collect();
    heads.sort_unstable();
    heads.dedup();
    let labels = || Labels { heads: heads.clone(), pool: pool as u64 };
    let mut formatter = NasmFormatter::with_options(Some(Box::new(labels())), None);
    let options = formatter.options_mut();
    options.set_space_after_operand_separator(true);
    options.set_uppercase_hex(false);
    options.set_hex_prefix("0x");
    options.set_hex_suffix("");
    let mut text = String::new();
    for instruction in &code {
        if let Some(label) = labels().head(instruction.ip()) {
            writeln!(text, "{label}:").expect("a String takes any text");
        }
        let mut line = String::new();
        formatter.format(instruction, &mut line);
        writeln!(text, "  {line}").expect("a String takes any text");
    }
    if !numbers.is_empty() {
        text.push_str("numbers:\n");
    }
    for number in numbers.chunks_exact(4) {
        let bits = u32::from_le_bytes(number.try_into().expect("a chunk of four"));
        writeln!(text, "  dd 0x{bits:08x}").expect("a String takes any text");
    }
    text
}
