//! The graph IR of optc.

pub mod constant;
pub mod error;
pub mod exec;
pub mod graph;
pub mod interp;
pub mod op;
pub mod remark;
pub mod tensor;
pub mod text;
pub mod types;
pub mod verify;

pub use constant::{Constant, Encoding, Form, Packed, Pattern, PatternForm, QuantParams};
pub use error::{ConstantError, EvalError, ExecError, ParseError, TypeError, VerifyError, VerifyErrors};
pub use exec::{Backend, Executable, StepTime};
pub use graph::{Graph, NodeId, ValueId};
pub use interp::Interp;
pub use op::Op;
pub use remark::{Remark, RemarkKind};
pub use tensor::{Data, Tensor};
pub use types::{DType, Dim, Shape, Symbol, TensorType, Type};
