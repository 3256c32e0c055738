//! From schedules to machine code. Cranelift generates every function the executor calls: the loop nests of
//! `driver`, and on hosts without a wider lowering the tile programs too (`clif`), both written by `functions`.
//! On x86-64 tile programs are assembled by `x64` and linked into the same module, because Cranelift has no
//! vectors wider than 128 bits.

mod clif;
mod driver;
pub(crate) mod functions;
pub(crate) mod x64;
