//! Matrix products. For Y = A·B: Ā = Ȳ·Bᵀ and B̄ = Aᵀ·Ȳ (Giles 2008, "An extended collection of matrix derivative
//! results", section 2.2.2).

use optc_ir::op::{Einsum, Gemm, Linear};
use optc_ir::{Op, ValueId};

use super::super::emit::Emit;
use super::super::error::TrainError;
use super::conv::before_act;
use super::{Cx, Gradients};

pub(super) fn rule(e: &mut Emit<'_>, op: &Op, cx: &Cx<'_>, dy: ValueId) -> Gradients {
    match op {
        Op::MatMul(_) => matmul(e, cx, dy),
        Op::Gemm(gemm) => self::gemm(e, gemm, cx, dy),
        Op::Linear(linear) => self::linear(e, linear, cx, dy),
        Op::Einsum(einsum) => self::einsum(e, einsum, cx, dy),
        _ => unreachable!("{} is of another family", op.name()),
    }
}

fn matmul(e: &mut Emit<'_>, cx: &Cx<'_>, dy: ValueId) -> Gradients {
    let (a, b) = (cx.x(e, 0), cx.x(e, 1));
    let (a_shape, b_shape) = (e.shape(a)?, e.shape(b)?);
    // Vectors are a row on the left and a column on the right.
    let wide = |shape: &[usize], row: bool| match shape {
        &[n] if row => vec![1, n],
        &[n] => vec![n, 1],
        shape => shape.to_vec(),
    };
    let (a_wide, b_wide) = (wide(&a_shape, true), wide(&b_shape, false));
    let mut y_wide = e.shape(dy)?;
    if a_shape.len() == 1 {
        y_wide.insert(y_wide.len() - usize::from(b_shape.len() > 1), 1);
    }
    if b_shape.len() == 1 {
        y_wide.push(1);
    }
    let (a, b, dy) = (e.reshape(a, &a_wide)?, e.reshape(b, &b_wide)?, e.reshape(dy, &y_wide)?);
    let da = if cx.needs(0) {
        let bt = e.swap_last(b)?;
        let da = e.matmul(dy, bt)?;
        let da = e.unbroadcast(da, &a_wide)?;
        Some(e.reshape(da, &a_shape)?)
    } else {
        None
    };
    let db = if cx.needs(1) {
        // One matrix on the right of many rows: all rows at once.
        let db = if b_wide.len() == 2 {
            let (a, dy) = (e.rows(a)?, e.rows(dy)?);
            e.transposed_product(a, dy)?
        } else {
            let at = e.swap_last(a)?;
            let db = e.matmul(at, dy)?;
            e.unbroadcast(db, &b_wide)?
        };
        Some(e.reshape(db, &b_shape)?)
    } else {
        None
    };
    Ok(vec![da, db])
}

/// Y = α·A′·B′ + β·C, where A′ and B′ may be transposed.
fn gemm(e: &mut Emit<'_>, gemm: &Gemm, cx: &Cx<'_>, dy: ValueId) -> Gradients {
    let (a, b) = (cx.x(e, 0), cx.x(e, 1));
    let product = |trans_a: bool, trans_b: bool| Gemm { alpha: gemm.alpha, trans_a, trans_b, ..Gemm::default() };
    let da = match (cx.needs(0), gemm.trans_a) {
        (false, _) => None,
        (true, false) => Some(e.op(product(false, !gemm.trans_b), &[dy, b])?),
        (true, true) => Some(e.op(product(gemm.trans_b, true), &[b, dy])?),
    };
    let db = match (cx.needs(1), gemm.trans_b) {
        (false, _) => None,
        (true, false) => Some(e.op(product(!gemm.trans_a, false), &[a, dy])?),
        (true, true) => Some(e.op(product(true, gemm.trans_a), &[dy, a])?),
    };
    let dc = if cx.needs(2) {
        let shape = e.shape(cx.x(e, 2))?;
        let dc = e.unbroadcast(dy, &shape)?;
        Some(e.scale(dc, gemm.beta.into())?)
    } else {
        None
    };
    Ok(vec![da, db, dc])
}

/// y = x·wᵀ + b over the last axis: x̄ = ȳ·w, w̄ = ȳᵀ·x over all rows, b̄ = Σȳ.
fn linear(e: &mut Emit<'_>, linear: &Linear, cx: &Cx<'_>, dy: ValueId) -> Gradients {
    let (x, w) = (cx.x(e, 0), cx.x(e, 1));
    let dz = before_act(e, linear.act, cx, dy)?;
    let dx = if cx.needs(0) { Some(e.matmul(dz, w)?) } else { None };
    let rows = if cx.needs(1) || cx.needs(2) { Some(e.rows(dz)?) } else { None };
    let dw = match rows.filter(|_| cx.needs(1)) {
        Some(rows) => {
            let x = e.rows(x)?;
            Some(e.transposed_product(rows, x)?)
        }
        None => None,
    };
    let db = match rows.filter(|_| cx.needs(2)) {
        Some(rows) => Some(e.sum(rows, &[0], false)?),
        None => None,
    };
    Ok(vec![dx, dw, db])
}

/// The gradient of one factor is the sum of products of ȳ and the other factors, the letters of the factor left
/// over. Letters that stand in one term alone were summed over; the gradient repeats along them.
fn einsum(e: &mut Emit<'_>, einsum: &Einsum, cx: &Cx<'_>, dy: ValueId) -> Gradients {
    let (terms, result) = letters(e, &einsum.equation)?;
    let mut gradients = vec![None; terms.len()];
    for slot in (0..terms.len()).filter(|&slot| cx.needs(slot)) {
        let wanted = &terms[slot];
        let others: Vec<usize> = (0..terms.len()).filter(|&other| other != slot).collect();
        let occurs = |letter: &char| result.contains(*letter) || others.iter().any(|&o| terms[o].contains(*letter));
        let kept: String = wanted.chars().filter(|letter| occurs(letter)).collect();
        let factors: Vec<&str> =
            std::iter::once(result.as_str()).chain(others.iter().map(|&o| terms[o].as_str())).collect();
        let equation = format!("{}->{kept}", factors.join(","));
        let operands: Vec<ValueId> = std::iter::once(dy).chain(others.iter().map(|&o| cx.x(e, o))).collect();
        let dx = e.op(Einsum { equation }, &operands)?;
        let shape = e.shape(cx.x(e, slot))?;
        let with_ones: Vec<usize> =
            wanted.chars().zip(&shape).map(|(letter, &n)| if occurs(&letter) { n } else { 1 }).collect();
        let dx = e.reshape(dx, &with_ones)?;
        gradients[slot] = Some(e.expand(dx, &shape)?);
    }
    Ok(gradients)
}

/// The letters of each operand and of the result.
fn letters(e: &Emit<'_>, equation: &str) -> Result<(Vec<String>, String), TrainError> {
    let text: String = equation.chars().filter(|c| !c.is_whitespace()).collect();
    let (operands, result) = match text.split_once("->") {
        Some((operands, result)) => (operands.to_owned(), result.to_owned()),
        // Implicit: letters that occur once, in alphabetical order.
        None => {
            let all: Vec<char> = text.chars().filter(|&c| c != ',').collect();
            let mut once: Vec<char> =
                all.iter().copied().filter(|c| all.iter().filter(|d| *d == c).count() == 1).collect();
            once.sort_unstable();
            (text.clone(), once.into_iter().collect())
        }
    };
    let terms: Vec<String> = operands.split(',').map(str::to_owned).collect();
    let repeats = |term: &String| term.chars().enumerate().any(|(i, c)| term.chars().skip(i + 1).any(|d| c == d));
    if text.contains('.') || terms.iter().any(repeats) {
        return Err(e.unsupported("an einsum with an ellipsis or a diagonal has no gradient yet; write it otherwise"));
    }
    Ok((terms, result))
}
