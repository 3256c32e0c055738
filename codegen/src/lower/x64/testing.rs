//! What must hold of the bytes of every program, whatever it computes.

use iced_x86::{CpuidFeature, InstructionInfoFactory, OpAccess, Register};

use super::disassembly::{Parts, parts};

/// Instructions a target may use.
const NARROW: &[CpuidFeature] = &[
    CpuidFeature::INTEL8086,
    CpuidFeature::INTEL386,
    CpuidFeature::X64,
    CpuidFeature::AVX,
    CpuidFeature::AVX2,
    CpuidFeature::FMA,
];
const WIDE: &[CpuidFeature] = &[
    CpuidFeature::AVX512F,
    CpuidFeature::AVX512BW,
    CpuidFeature::AVX512DQ,
    CpuidFeature::AVX512VL,
    CpuidFeature::AVX512_VBMI,
    CpuidFeature::AVX512_VNNI,
    CpuidFeature::AVX512_VPOPCNTDQ,
];

/// Registers the caller wants back, which only a program with deep loops may use, and then saves.
const SAVED: &[Register] =
    &[Register::RBX, Register::RBP, Register::R12, Register::R13, Register::R14, Register::R15, Register::RSP];

/// Checks that the bytes decode to instructions that the target has, that jumps lead to instructions and
/// reads of numbers to numbers, and that the stack and the registers of the caller are as they were.
pub(crate) fn check(bytes: &[u8], wide: bool) {
    let Parts { code, pool, numbers } = parts(bytes);
    let text = || super::disassembly::disassemble(bytes);
    let mut info = InstructionInfoFactory::new();
    let (mut pushed, mut popped) = (Vec::new(), Vec::new());
    for instruction in &code {
        assert!(!instruction.is_invalid(), "at {:#x}:\n{}", instruction.ip(), text());
        for feature in instruction.cpuid_features() {
            assert!(
                NARROW.contains(feature) || wide && WIDE.contains(feature),
                "{instruction:?} needs {feature:?}:\n{}",
                text()
            );
        }
        if instruction.is_jcc_near() {
            let target = instruction.near_branch_target();
            assert!(code.iter().any(|i| i.ip() == target), "a jump into an instruction:\n{}", text());
        }
        if instruction.is_ip_rel_memory_operand() && instruction.mnemonic() == iced_x86::Mnemonic::Lea {
            assert_eq!(instruction.ip_rel_memory_address(), 0, "only the code's own place is asked for:\n{}", text());
        } else if instruction.is_ip_rel_memory_operand() {
            let at = usize::try_from(instruction.ip_rel_memory_address()).expect("code is short");
            let size = instruction.memory_size();
            let size = if instruction.is_broadcast() { size.element_size() } else { size.size() };
            let fits = pool <= at && at + size <= pool + numbers.len() && at.is_multiple_of(4);
            assert!(fits, "{instruction:?} reads {size} bytes at {at:#x}:\n{}", text());
        }
        match instruction.mnemonic() {
            iced_x86::Mnemonic::Push => pushed.push(instruction.op0_register()),
            iced_x86::Mnemonic::Pop => popped.push(instruction.op0_register()),
            iced_x86::Mnemonic::Ret => {}
            _ => {
                for used in info.info(instruction).used_registers() {
                    let register = used.register().full_register();
                    let kept = used.access() == OpAccess::Read || !SAVED.contains(&register);
                    assert!(kept || pushed.contains(&register), "{instruction:?} changes {register:?}:\n{}", text());
                }
            }
        }
    }
    popped.reverse();
    assert_eq!(pushed, popped, "what is saved is restored:\n{}", text());
    assert_eq!(code.last().map(|last| last.mnemonic()), Some(iced_x86::Mnemonic::Ret), "it returns:\n{}", text());
}
