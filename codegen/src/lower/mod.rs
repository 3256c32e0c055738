//! From schedules to machine code. Cranelift generates every function the executor calls: the loop nests of
//! `driver`, and on hosts without a wider lowering the tile programs too (`clif`). On x86-64 tile programs are
//! assembled by `x64` and linked into the same module, because Cranelift has no vectors wider than 128 bits.

pub(crate) mod clif;
pub(crate) mod driver;
pub(crate) mod x64;
