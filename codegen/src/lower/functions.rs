//! The Cranelift functions of a schedule, before they are compiled: its driver, and tile programs where no
//! wider lowering makes them.

use cranelift_codegen::ir::{AbiParam, FuncRef, Function, InstBuilder, Signature, UserFuncName, Value, types};
use cranelift_codegen::isa::{Builder, CallConv, OwnedTargetIsa, TargetFrontendConfig, TargetIsa};
use cranelift_codegen::settings::{self, Configurable};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use optc_ir::ExecError;

use super::{clif, driver};
use crate::tile::{Program, Schedule};

/// The machine this process runs on.
///
/// # Errors
/// If Cranelift does not support it.
pub(crate) fn host_isa() -> Result<OwnedTargetIsa, ExecError> {
    isa(cranelift_native::builder().map_err(|e| ExecError::Backend(e.to_owned()))?)
}

/// A machine, with the settings that all code of kernels is generated with.
///
/// # Errors
/// If Cranelift refuses one of them.
pub(crate) fn isa(builder: Builder) -> Result<OwnedTargetIsa, ExecError> {
    let mut flags = settings::builder();
    for (name, value) in [
        // Straight-line vector code is slower and takes quadratic time at `speed`; optc is the optimiser.
        ("opt_level", "none"),
        ("is_pic", "false"),
        ("use_colocated_libcalls", "false"),
        ("enable_verifier", if cfg!(debug_assertions) { "true" } else { "false" }),
    ] {
        flags.set(name, value).map_err(backend)?;
    }
    builder.finish(settings::Flags::new(flags)).map_err(backend)
}

/// An error of Cranelift.
pub(crate) fn backend(error: impl std::fmt::Display) -> ExecError {
    ExecError::Backend(format!("code generation failed: {error}"))
}

/// The calling convention of every kernel: `fn(args, begin, end)`. `args` points to one pointer per buffer;
/// the kernel does the outer iterations `begin..end` of its loop nest.
pub(crate) fn kernel_signature(call_conv: CallConv) -> Signature {
    signature(call_conv, 3)
}

/// The calling convention of a tile program. Wide tiles are written for the System V convention, whatever the
/// host's own is.
pub(crate) fn program_signature(program: &Program) -> Signature {
    signature(CallConv::SystemV, program.pointers)
}

fn signature(call_conv: CallConv, integers: usize) -> Signature {
    let mut signature = Signature::new(call_conv);
    signature.params.extend(vec![AbiParam::new(types::I64); integers]);
    signature
}

/// Writes functions for one machine.
pub(crate) struct Functions {
    scratch: FunctionBuilderContext,
    config: TargetFrontendConfig,
    has_fma: clif::HasFma,
}

impl Functions {
    /// For the machine of an ISA.
    pub(crate) fn new(isa: &dyn TargetIsa) -> Functions {
        Functions { scratch: FunctionBuilderContext::new(), config: isa.frontend_config(), has_fma: has_fma(isa) }
    }

    /// The function the executor calls; `declare` imports the schedule's program of an index into it.
    pub(crate) fn driver(
        &mut self,
        name: UserFuncName,
        schedule: &Schedule,
        mut declare: impl FnMut(&mut Function, usize) -> FuncRef,
    ) -> Function {
        let signature = kernel_signature(self.config.default_call_conv);
        let mut function = Function::with_name_signature(name, signature);
        let programs: Vec<FuncRef> = (0..schedule.programs.len()).map(|i| declare(&mut function, i)).collect();
        self.write(&mut function, |b, params| {
            driver::lower(b, [params[0], params[1], params[2]], schedule, &programs);
        });
        function
    }

    /// A tile program.
    pub(crate) fn program(&mut self, name: UserFuncName, program: &Program) -> Function {
        let has_fma = self.has_fma;
        let mut function = Function::with_name_signature(name, program_signature(program));
        self.write(&mut function, |b, params| clif::lower(b, params, program, has_fma));
        function
    }

    fn write(&mut self, function: &mut Function, body: impl FnOnce(&mut FunctionBuilder<'_>, &[Value])) {
        let mut b = FunctionBuilder::new(function, &mut self.scratch);
        let entry = b.create_block();
        b.append_block_params_for_function_params(entry);
        b.switch_to_block(entry);
        b.seal_block(entry);
        let params = b.block_params(entry).to_vec();
        body(&mut b, &params);
        b.ins().return_(&[]);
        b.finalize(self.config);
    }
}

/// Whether fused multiply-add is an instruction of this machine and not a library call.
fn has_fma(isa: &dyn TargetIsa) -> clif::HasFma {
    match isa.triple().architecture.to_string().as_str() {
        "x86_64" => isa.isa_flags().iter().any(|flag| flag.name == "has_fma" && flag.as_bool() == Some(true)),
        _ => true,
    }
}
