//! What code a plan becomes, as text: for people, and for snapshots.
//!
//! Three layers, each closer to the machine: the [`schedules`] of kernels, written once for every target; the
//! Cranelift IR of what Cranelift compiles ([`clif`]); and the instructions of tile programs ([`asm`]). Text can
//! be had for any target, whether or not this host could run the code.

use std::fmt::Write;

use cranelift_codegen::Context;
use cranelift_codegen::control::ControlPlane;
use cranelift_codegen::ir::{ExtFuncData, ExternalName, Function, UserExternalName, UserFuncName};
use cranelift_codegen::isa::TargetIsa;
use optc_ir::ExecError;

use crate::lower::functions::{Functions, backend, host_isa, program_signature};
use crate::lower::x64;
use crate::plan::Plan;
use crate::target::{Target, Vectors};
use crate::tile::Schedule;

/// How each kernel walks its buffers, and its tile programs.
pub fn schedules(plan: &Plan, target: &Target) -> String {
    let kernels = plan.works.iter().map(|work| format!("{work} {}\n{}", work.shape(), work.schedule(target.vectors)));
    kernels.collect::<Vec<String>>().join("\n")
}

/// The Cranelift IR of each kernel's driver, and of its tile programs where they are compiled by Cranelift.
///
/// # Errors
/// If Cranelift does not support this host.
pub fn clif(plan: &Plan, target: &Target) -> Result<String, ExecError> {
    let isa = host_isa()?;
    each_kernel(plan, target, |schedule| Ok(clif_of(schedule, target.vectors, &*isa)))
}

/// The instructions of each kernel's tile programs: in the syntax of NASM for AVX2 and AVX-512, in that of
/// Cranelift for this host otherwise.
///
/// # Errors
/// If Cranelift does not support this host.
pub fn asm(plan: &Plan, target: &Target) -> Result<String, ExecError> {
    let isa = host_isa()?;
    each_kernel(plan, target, |schedule| asm_of(schedule, target.vectors, &*isa))
}

fn each_kernel(
    plan: &Plan,
    target: &Target,
    mut text: impl FnMut(&Schedule) -> Result<String, ExecError>,
) -> Result<String, ExecError> {
    let mut kernels = Vec::new();
    for work in &plan.works {
        let code = text(&work.schedule(target.vectors))?;
        kernels.push(format!("; {work} {}\n{code}", work.shape()));
    }
    Ok(kernels.join("\n"))
}

/// The IR of a schedule: the driver is function 0, programs follow.
fn clif_of(schedule: &Schedule, vectors: Vectors, isa: &dyn TargetIsa) -> String {
    let mut functions = Functions::new(isa);
    let mut text = driver(&mut functions, schedule).to_string();
    if vectors == Vectors::Clif {
        for function in programs(&mut functions, schedule) {
            write!(text, "\n{function}").expect("a String takes any text");
        }
    }
    text
}

fn asm_of(schedule: &Schedule, vectors: Vectors, isa: &dyn TargetIsa) -> Result<String, ExecError> {
    let wide = match vectors {
        Vectors::Clif => None,
        vectors => Some(vectors.is_wide()),
    };
    let codes: Vec<String> = match wide {
        Some(wide) => schedule.programs.iter().map(|p| x64::disassemble(&x64::lower(p, wide))).collect(),
        None => {
            let programs = programs(&mut Functions::new(isa), schedule);
            programs.into_iter().map(|function| compiled(function, isa)).collect::<Result<_, _>>()?
        }
    };
    let programs = codes.iter().enumerate().map(|(i, code)| format!("; program {i}\n{code}"));
    Ok(programs.collect())
}

fn name(index: usize) -> UserExternalName {
    UserExternalName::new(0, u32::try_from(index).expect("few programs"))
}

/// A driver that calls program `i` by the name of function `i + 1`.
fn driver(functions: &mut Functions, schedule: &Schedule) -> Function {
    functions.driver(UserFuncName::User(name(0)), schedule, |function, i| {
        let signature = function.import_signature(program_signature(&schedule.programs[i]));
        let name = ExternalName::user(function.declare_imported_user_function(name(i + 1)));
        function.import_function(ExtFuncData { name, signature, colocated: true, patchable: false })
    })
}

fn programs(functions: &mut Functions, schedule: &Schedule) -> Vec<Function> {
    let programs = schedule.programs.iter().enumerate();
    programs.map(|(i, program)| functions.program(UserFuncName::User(name(i + 1)), program)).collect()
}

/// What Cranelift makes of a function, as text.
fn compiled(function: Function, isa: &dyn TargetIsa) -> Result<String, ExecError> {
    let mut context = Context::for_function(function);
    context.set_disasm(true);
    let code = context.compile(isa, &mut ControlPlane::default()).map_err(|e| backend(e.inner))?;
    Ok(code.vcode.clone().unwrap_or_default())
}

#[cfg(test)]
mod tests;
