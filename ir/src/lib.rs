//! The graph IR of optc: what all its parts speak.
//!
//! A [`Graph`] holds operations ([`Op`]) and the uses of their values; a [`Constant`] is a tensor and,
//! apart from that, a way to keep it; [`text`] is the readable form of both, [`verify`](verify::verify)
//! the judge of graphs and [`Interp`] the meaning of operators. [`Backend`] is whoever can run a graph.
//!
//! The crate reads and writes no files and prints nothing.
//!
//! ```
//! use optc_ir::builder::GraphBuilder;
//! use optc_ir::{Backend, DType, Dim, Interp, Tensor, text, verify};
//!
//! let g = GraphBuilder::new("layer");
//! let x = g.input("x", DType::F32, [Dim::sym("N"), Dim::Fixed(2)]);
//! let w = g.constant("w", Tensor::f32([1, 2], [1.0, -2.0]));
//! let b = g.constant("b", Tensor::f32([1], [0.5]));
//! let y = x.linear(w, Some(b)).named("y").id();
//! let graph = g.finish(&[("y", y)]);
//!
//! verify::verify(&graph)?;
//! let printed = graph.to_string();
//! assert_eq!(
//!     printed,
//!     "\
//! graph @layer(%x: f32[N, 2]) -> (y: f32[N, 1]) {
//!   %w = const f32[1, 2] = [1, -2]
//!   %b = const f32[1] = [0.5]
//!   %y = linear(%x, %w, %b) : f32[N, 1]
//!   return %y
//! }
//! "
//! );
//! assert_eq!(text::parse(&printed)?, graph);
//!
//! let results = Interp.compile(&graph)?.run(&[Tensor::f32([1, 2], [3.0, 1.0])])?;
//! assert_eq!(results, [Tensor::f32([1, 1], [1.5])]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod builder;
pub mod constant;
pub mod dot;
pub mod error;
pub mod exec;
pub mod graph;
pub mod interp;
pub mod op;
pub mod remark;
pub mod step;
pub mod tensor;
pub mod text;
pub mod types;
pub mod verify;

pub use constant::{Constant, Encoding, Form, Packed, Pattern, PatternForm, QuantParams};
pub use error::{ConstantError, EvalError, ExecError, ParseError, TypeError, VerifyError, VerifyErrors};
pub use exec::{Backend, Executable, Resident, StepExecutable, StepTime, check_results};
pub use graph::{Graph, NodeId, ValueId};
pub use interp::Interp;
pub use op::Op;
pub use remark::{Remark, RemarkKind};
pub use tensor::{Data, Tensor};
pub use types::{DType, Dim, Shape, Symbol, TensorType, Type};
