//! Owns a Cranelift module and turns its finished functions into callable kernels.
//!
//! Invariant: a [`Kernel`] keeps the code it points to alive, and code memory is unmapped when the last
//! kernel of a module is dropped. Code is never writable and executable at once.
#![allow(unsafe_code, reason = "calling generated code and freeing its memory can't be checked by the compiler")]

use std::sync::{Arc, Mutex};

use cranelift_codegen::Context;
use cranelift_codegen::ir::{AbiParam, Function, Signature, UserFuncName, types};
use cranelift_codegen::isa::{CallConv, OwnedTargetIsa};
use cranelift_codegen::settings::{self, Configurable};
use cranelift_frontend::FunctionBuilderContext;
use cranelift_jit::{ArenaMemoryProvider, JITBuilder, JITModule};
use cranelift_module::{FuncId, Linkage, Module};
use optc_ir::ExecError;

use crate::emit::Emitter;

/// Address space reserved for the code of one module. Reserved, not used: pages are taken as code needs them.
const CODE_RESERVE: usize = 64 << 20;

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
    functions: Vec<FuncId>,
}

impl ModuleBuilder {
    /// An empty module for this host.
    ///
    /// # Errors
    /// If the host is not supported or refuses memory.
    pub(crate) fn new() -> Result<ModuleBuilder, ExecError> {
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
            functions: Vec::new(),
        })
    }

    /// Defines one kernel; `body` emits it. Returns its index.
    ///
    /// # Errors
    /// If Cranelift refuses the function: a bug of the emitter.
    pub(crate) fn define(&mut self, body: impl FnOnce(&mut Emitter<'_>)) -> Result<usize, ExecError> {
        let signature = kernel_signature(self.module.isa().default_call_conv());
        let name = format!("kernel{}", self.functions.len());
        let id = self.module.declare_function(&name, Linkage::Local, &signature).map_err(backend)?;
        self.context.func = Function::with_name_signature(UserFuncName::user(0, id.as_u32()), signature);
        let mut emitter = Emitter::new(&mut self.context.func, &mut self.builder_context, self.has_fma);
        body(&mut emitter);
        emitter.finish(self.module.target_config());
        self.module.define_function(id, &mut self.context).map_err(backend)?;
        self.module.clear_context(&mut self.context);
        self.functions.push(id);
        Ok(self.functions.len() - 1)
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
