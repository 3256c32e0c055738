//! Owns a Cranelift module and turns its finished functions into callable kernels.
//!
//! Invariant: a [`Kernel`] keeps the code it points to alive, and code memory is unmapped when the last
//! kernel of a module is dropped. Code is never writable and executable at once.
#![allow(unsafe_code, reason = "calling generated code and freeing its memory can't be checked by the compiler")]

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use cranelift_codegen::Context;
use cranelift_codegen::ir::{Function, UserFuncName};
use cranelift_jit::{ArenaMemoryProvider, JITBuilder, JITModule};
use cranelift_module::{FuncId, Linkage, Module};
use optc_ir::ExecError;

use crate::lower::functions::{Functions, backend, host_isa, kernel_signature, program_signature};
use crate::lower::x64;
use crate::target::Vectors;
use crate::tile::{Program, Schedule};

/// Address space reserved for the code of one module. Reserved, not used: pages are taken as code needs them.
const CODE_RESERVE: usize = 512 << 20;

/// Alignment of tile programs.
const CODE_ALIGN: u64 = 64;

/// A module under construction.
pub(crate) struct ModuleBuilder {
    module: JITModule,
    context: Context,
    writer: Functions,
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
        let writer = Functions::new(&*isa);
        let mut builder = JITBuilder::with_isa(isa, cranelift_module::default_libcall_names());
        builder.memory_provider(Box::new(ArenaMemoryProvider::new_with_size(CODE_RESERVE).map_err(backend)?));
        let module = JITModule::new(builder);
        let context = module.make_context();
        Ok(ModuleBuilder { module, context, writer, vectors, functions: Vec::new(), programs: HashMap::new() })
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
        let name = UserFuncName::user(0, id.as_u32());
        let module = &mut self.module;
        let declare = |function: &mut Function, i: usize| module.declare_func_in_func(programs[i], function);
        let function = self.writer.driver(name, schedule, declare);
        self.compile(id, function)?;
        self.functions.push(id);
        Ok(self.functions.len() - 1)
    }

    fn define_program(&mut self, program: &Program) -> Result<FuncId, ExecError> {
        let signature = program_signature(program);
        if self.vectors != Vectors::Clif {
            let code = x64::lower(program, self.vectors.is_wide());
            if let Some(&known) = self.programs.get(&code) {
                return Ok(known);
            }
            let id = self.module.declare_anonymous_function(&signature).map_err(backend)?;
            self.module.define_function_bytes(id, CODE_ALIGN, &code, &[]).map_err(backend)?;
            self.programs.insert(code, id);
            return Ok(id);
        }
        let id = self.module.declare_anonymous_function(&signature).map_err(backend)?;
        let function = self.writer.program(UserFuncName::user(0, id.as_u32()), program);
        self.compile(id, function)?;
        Ok(id)
    }

    fn compile(&mut self, id: FuncId, function: Function) -> Result<(), ExecError> {
        self.context.func = function;
        self.module.define_function(id, &mut self.context).map_err(backend)?;
        self.module.clear_context(&mut self.context);
        Ok(())
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
        if vectors != Vectors::Clif {
            let wide = vectors.is_wide();
            schedule.programs.iter().for_each(|program| x64::testing::check(&x64::lower(program, wide), wide));
        }
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

    /// [`all_vectors`] that multiply codes.
    pub(crate) fn vectors_of_codes() -> Vec<Vectors> {
        all_vectors().into_iter().filter(|vectors| vectors.multiply_codes()).collect()
    }

    /// What vectors this host can run, the portable ones first.
    pub(crate) fn all_vectors() -> Vec<Vectors> {
        Vectors::ALL.into_iter().filter(|vectors| vectors.run_here()).collect()
    }
}
