//! Owns a Cranelift module and turns its finished functions into callable kernels.
//!
//! Invariant: a [`Kernel`] keeps the code it points to alive, and code memory is unmapped when the last
//! kernel of a module is dropped. Code is never writable and executable at once.
#![allow(unsafe_code, reason = "calling generated code and freeing its memory can't be checked by the compiler")]

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use cranelift_codegen::Context;
use cranelift_codegen::ir::{AbiParam, Function, InstBuilder, Signature, UserFuncName, Value, types};
use cranelift_codegen::isa::{CallConv, OwnedTargetIsa};
use cranelift_codegen::settings::{self, Configurable};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use cranelift_jit::{ArenaMemoryProvider, JITBuilder, JITModule};
use cranelift_module::{FuncId, Linkage, Module};
use optc_ir::ExecError;

use crate::lower::{clif, driver, x64};
use crate::target::Vectors;
use crate::tile::{Program, Schedule};

/// Address space reserved for the code of one module. Reserved, not used: pages are taken as code needs them.
const CODE_RESERVE: usize = 64 << 20;

/// Alignment of tile programs.
const CODE_ALIGN: u64 = 64;

/// The machine to generate code for.
///
/// # Errors
/// If Cranelift does not support this host.
pub(crate) fn host_isa() -> Result<OwnedTargetIsa, ExecError> {
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
    let builder = cranelift_native::builder().map_err(|e| ExecError::Backend(e.to_owned()))?;
    builder.finish(settings::Flags::new(flags)).map_err(backend)
}

fn backend(error: impl std::fmt::Display) -> ExecError {
    ExecError::Backend(format!("code generation failed: {error}"))
}

/// The calling convention of every kernel: `fn(args, begin, end)`. `args` points to one pointer per buffer;
/// the kernel does the outer iterations `begin..end` of its loop nest.
pub(crate) fn kernel_signature(call_conv: CallConv) -> Signature {
    let mut signature = Signature::new(call_conv);
    signature.params.extend([AbiParam::new(types::I64); 3]);
    signature
}

/// A module under construction.
pub(crate) struct ModuleBuilder {
    module: JITModule,
    context: Context,
    builder_context: FunctionBuilderContext,
    has_fma: bool,
    vectors: Vectors,
    functions: Vec<FuncId>,
    /// Tile programs that are in the module already, by their code.
    programs: HashMap<Vec<u8>, FuncId>,
}

impl ModuleBuilder {
    /// An empty module for this host.
    ///
    /// # Errors
    /// If the host is not supported or refuses memory.
    pub(crate) fn new(vectors: Vectors) -> Result<ModuleBuilder, ExecError> {
        let isa = host_isa()?;
        let has_fma = has_fma(&isa);
        let mut builder = JITBuilder::with_isa(isa, cranelift_module::default_libcall_names());
        builder.memory_provider(Box::new(ArenaMemoryProvider::new_with_size(CODE_RESERVE).map_err(backend)?));
        let module = JITModule::new(builder);
        let context = module.make_context();
        Ok(ModuleBuilder {
            module,
            context,
            builder_context: FunctionBuilderContext::new(),
            has_fma,
            vectors,
            functions: Vec::new(),
            programs: HashMap::new(),
        })
    }

    /// Defines the kernel of a schedule: its tile programs and the function that calls them. Returns its index.
    ///
    /// # Errors
    /// If Cranelift refuses a function: a bug of the lowering.
    pub(crate) fn define_schedule(&mut self, schedule: &Schedule) -> Result<usize, ExecError> {
        let programs = schedule.programs.iter().map(|p| self.define_program(p)).collect::<Result<Vec<FuncId>, _>>()?;
        let signature = kernel_signature(self.module.isa().default_call_conv());
        let name = format!("kernel{}", self.functions.len());
        let id = self.module.declare_function(&name, Linkage::Local, &signature).map_err(backend)?;
        self.context.func = Function::with_name_signature(UserFuncName::user(0, id.as_u32()), signature);
        let programs: Vec<_> =
            programs.iter().map(|&p| self.module.declare_func_in_func(p, &mut self.context.func)).collect();
        let mut b = FunctionBuilder::new(&mut self.context.func, &mut self.builder_context);
        let params = open(&mut b);
        driver::lower(&mut b, [params[0], params[1], params[2]], schedule, &programs);
        b.ins().return_(&[]);
        b.finalize(self.module.target_config());
        self.module.define_function(id, &mut self.context).map_err(backend)?;
        self.module.clear_context(&mut self.context);
        self.functions.push(id);
        Ok(self.functions.len() - 1)
    }

    fn define_program(&mut self, program: &Program) -> Result<FuncId, ExecError> {
        // Wide tiles are written for the System V convention, whatever the host's own is.
        let mut signature = Signature::new(CallConv::SystemV);
        signature.params.extend(vec![AbiParam::new(types::I64); program.pointers]);
        if self.vectors != Vectors::Clif {
            let code = x64::lower(program, self.vectors == Vectors::Avx512);
            if let Some(&known) = self.programs.get(&code) {
                return Ok(known);
            }
            let id = self.module.declare_anonymous_function(&signature).map_err(backend)?;
            self.module.define_function_bytes(id, CODE_ALIGN, &code, &[]).map_err(backend)?;
            self.programs.insert(code, id);
            return Ok(id);
        }
        let id = self.module.declare_anonymous_function(&signature).map_err(backend)?;
        self.context.func = Function::with_name_signature(UserFuncName::user(0, id.as_u32()), signature);
        let mut b = FunctionBuilder::new(&mut self.context.func, &mut self.builder_context);
        let params = open(&mut b);
        clif::lower(&mut b, &params, program, self.has_fma);
        b.ins().return_(&[]);
        b.finalize(self.module.target_config());
        self.module.define_function(id, &mut self.context).map_err(backend)?;
        self.module.clear_context(&mut self.context);
        Ok(id)
    }

    /// Links everything; kernels come in order of definition.
    ///
    /// # Errors
    /// If memory can't be made executable.
    pub(crate) fn finish(mut self) -> Result<Vec<Kernel>, ExecError> {
        self.module.finalize_definitions().map_err(backend)?;
        let entries: Vec<usize> =
            self.functions.iter().map(|&id| self.module.get_finalized_function(id).addr()).collect();
        let code = Arc::new(Code { module: Mutex::new(Some(self.module)) });
        Ok(entries.into_iter().map(|entry| Kernel { entry, _code: code.clone() }).collect())
    }
}

/// Opens the entry block; returns the parameters of the function.
fn open(b: &mut FunctionBuilder<'_>) -> Vec<Value> {
    let entry = b.create_block();
    b.append_block_params_for_function_params(entry);
    b.switch_to_block(entry);
    b.seal_block(entry);
    b.block_params(entry).to_vec()
}

/// Whether fused multiply-add is an instruction of this machine and not a library call.
fn has_fma(isa: &OwnedTargetIsa) -> bool {
    match isa.triple().architecture.to_string().as_str() {
        "x86_64" => isa.isa_flags().iter().any(|flag| flag.name == "has_fma" && flag.as_bool() == Some(true)),
        _ => true,
    }
}

/// The memory of a finished module.
struct Code {
    module: Mutex<Option<JITModule>>,
}

impl Drop for Code {
    fn drop(&mut self) {
        let module = self.module.get_mut().ok().and_then(Option::take);
        if let Some(module) = module {
            // SAFETY: every kernel of the module holds a reference to this value, so none is left to call.
            unsafe { module.free_memory() };
        }
    }
}

/// A compiled kernel.
#[derive(Clone)]
pub(crate) struct Kernel {
    entry: usize,
    _code: Arc<Code>,
}

impl Kernel {
    /// Runs the outer iterations `begin..end`.
    ///
    /// # Safety
    /// `args` must point to as many buffer addresses as the kernel was emitted for; each buffer must be as long
    /// and as aligned as the emitter was told, and no other thread may touch what these iterations write.
    pub(crate) unsafe fn call(&self, args: &[usize], begin: usize, end: usize) {
        // SAFETY: `entry` is a finished function of `kernel_signature` in memory that `_code` keeps mapped; the
        // caller vouches for the buffers.
        unsafe {
            let function: extern "C" fn(*const usize, usize, usize) = std::mem::transmute(self.entry);
            function(args.as_ptr(), begin, end);
        }
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// Runs all of a schedule on buffers of numbers, in two halves.
    pub(crate) fn run(vectors: Vectors, schedule: &Schedule, buffers: &mut [Vec<f32>]) {
        let mut module = ModuleBuilder::new(vectors).expect("the host is supported");
        module.define_schedule(schedule).expect("the schedule can be lowered");
        let kernels = module.finish().expect("memory can be made executable");
        assert_eq!(buffers.len(), schedule.pointers);
        let args: Vec<usize> = buffers.iter_mut().map(|b| b.as_mut_ptr().expose_provenance()).collect();
        let middle = schedule.range() / 2;
        for (begin, end) in [(middle, schedule.range()), (0, middle)] {
            // SAFETY: the caller laid the buffers out as the schedule walks them.
            unsafe { kernels[0].call(&args, begin, end) };
        }
    }

    /// Small integers, so that every order of additions gives the same sum.
    pub(crate) fn numbers(len: usize, seed: usize) -> Vec<f32> {
        (0..len).map(|i| ((i * 7 + seed * 13 + i / 5) % 9) as f32 - 4.0).collect()
    }

    /// What vectors this host can run, the portable ones first.
    pub(crate) fn all_vectors() -> Vec<Vectors> {
        Vectors::ALL.into_iter().filter(|vectors| vectors.run_here()).collect()
    }
}
