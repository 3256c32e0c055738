//! The equation of an einsum, resolved for operands of known ranks.

use crate::error::TypeError;
use crate::types::Dim;

use super::infer::broadcast;

/// Which label every axis of every operand and of the result has. Labels are numbered from 0 in order
/// of appearance; an axis under an ellipsis has a label of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Equation {
    /// Labels by operand and axis. A label twice in one operand means its diagonal.
    pub operands: Vec<Vec<usize>>,
    /// Labels of the result by axis, each once.
    pub result: Vec<usize>,
    /// How many labels there are.
    pub labels: usize,
}

/// What an axis is called before labels are numbered: a letter, or the n-th axis from the right under
/// an ellipsis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Label {
    Letter(char),
    Under(usize),
}

impl Equation {
    /// Reads an equation such as `bij,bjk->bik` or, with the result implied, `...ij,...jk`.
    ///
    /// # Errors
    /// If it is malformed or does not fit the ranks.
    pub fn parse(text: &str, ranks: &[usize]) -> Result<Equation, TypeError> {
        let malformed = |what: &str| TypeError::Attribute(format!("equation {text:?}: {what}"));
        let text: String = text.chars().filter(|c| *c != ' ').collect();
        let (left, right) = match text.split_once("->") {
            Some((left, right)) => (left, Some(right)),
            None => (text.as_str(), None),
        };
        let terms: Vec<&str> = left.split(',').collect();
        if terms.len() != ranks.len() {
            return Err(malformed(&format!("{} terms for {} operands", terms.len(), ranks.len())));
        }
        let mut labels: Vec<Label> = Vec::new();
        let mut number = |label: Label| {
            labels.iter().position(|&known| known == label).unwrap_or_else(|| {
                labels.push(label);
                labels.len() - 1
            })
        };
        let mut operands = Vec::with_capacity(terms.len());
        let mut widest = 0;
        for (term, &rank) in terms.iter().zip(ranks) {
            let (letters, ellipsis) = term_letters(term).map_err(malformed)?;
            let under = match (ellipsis, rank.checked_sub(letters.len())) {
                (Some(_), Some(under)) => under,
                (None, Some(0)) => 0,
                _ => return Err(malformed(&format!("term {term:?} does not fit an operand of {rank} axes"))),
            };
            widest = widest.max(under);
            operands.push(spell(&letters, ellipsis, under).into_iter().map(&mut number).collect::<Vec<_>>());
        }
        let result = match right {
            Some(term) => {
                let (letters, ellipsis) = term_letters(term).map_err(malformed)?;
                if ellipsis.is_none() && widest > 0 {
                    return Err(malformed("the result leaves out the ellipsis"));
                }
                spell(&letters, ellipsis, widest)
            }
            None => {
                let mut once: Vec<char> =
                    left.chars().filter(|c| c.is_ascii_alphabetic() && left.matches(*c).count() == 1).collect();
                once.sort_unstable();
                spell(&once, Some(0), widest)
            }
        };
        let known = labels.len();
        let mut numbered = Vec::with_capacity(result.len());
        for label in result {
            let at = labels.iter().position(|&l| l == label).ok_or_else(|| malformed("the result has a new letter"))?;
            if numbered.contains(&at) {
                return Err(malformed("the result repeats a letter"));
            }
            numbered.push(at);
        }
        Ok(Equation { operands, result: numbered, labels: known })
    }

    /// The extent of every label.
    ///
    /// # Errors
    /// If axes of the same label have extents that differ, unless one of them is 1.
    pub fn extents(&self, shapes: &[&[Dim]]) -> Result<Vec<Dim>, TypeError> {
        let mut extents = vec![Dim::Fixed(1); self.labels];
        for (labels, shape) in self.operands.iter().zip(shapes) {
            for (&label, dim) in labels.iter().zip(*shape) {
                let merged = broadcast(&extents[label..=label], std::slice::from_ref(dim))?;
                extents[label] = merged[0].clone();
            }
        }
        Ok(extents)
    }
}

/// The letters of a term, and before which of them an ellipsis stands.
fn term_letters(term: &str) -> Result<(Vec<char>, Option<usize>), &'static str> {
    let (before, after) = match term.split_once("...") {
        Some((before, after)) => (before, Some(after)),
        None => (term, None),
    };
    let letters: Vec<char> = before.chars().chain(after.unwrap_or("").chars()).collect();
    if letters.iter().all(char::is_ascii_alphabetic) {
        Ok((letters, after.map(|_| before.len())))
    } else {
        Err("expected letters and at most one ellipsis in a term")
    }
}

/// The labels of a term whose ellipsis stands for `under` axes.
fn spell(letters: &[char], ellipsis: Option<usize>, under: usize) -> Vec<Label> {
    let (before, after) = letters.split_at(ellipsis.unwrap_or(letters.len()));
    let letter = |c: &char| Label::Letter(*c);
    let middle = (0..under).rev().map(Label::Under);
    before.iter().map(letter).chain(middle).chain(after.iter().map(letter)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str, ranks: &[usize]) -> (Vec<Vec<usize>>, Vec<usize>) {
        let equation = Equation::parse(text, ranks).expect("the equation fits");
        (equation.operands, equation.result)
    }

    #[test]
    fn results_are_explicit_or_implied() {
        assert_eq!(parse("bij, bjk -> bik", &[3, 3]), (vec![vec![0, 1, 2], vec![0, 2, 3]], vec![0, 1, 3]));
        assert_eq!(parse("ij,jk", &[2, 2]).1, [0, 2]);
        assert_eq!(parse("ba", &[2]).1, [1, 0]);
        assert_eq!(parse("ii", &[2]), (vec![vec![0, 0]], vec![]));
        assert_eq!(parse("i->", &[1]).1, [] as [usize; 0]);
        assert_eq!(parse(",i", &[0, 1]), (vec![vec![], vec![0]], vec![0]));
    }

    #[test]
    fn ellipses_align_at_the_right() {
        assert_eq!(parse("...ij,...jk", &[4, 3]).0, [vec![0, 1, 2, 3], vec![1, 3, 4]]);
        assert_eq!(parse("...ij,...jk", &[4, 3]).1, [0, 1, 2, 4]);
        assert_eq!(parse("i...->...i", &[3]).1, [1, 2, 0]);
        assert_eq!(parse("i...->i...", &[1]).1, [0]);
    }

    #[test]
    fn malformed_equations_are_errors() {
        for (text, ranks) in [
            ("ij,jk", &[2][..]),
            ("ij", &[3]),
            ("i...j", &[1]),
            ("ij->ik", &[2]),
            ("ij->ii", &[2]),
            ("...i->i", &[2]),
            ("i.j", &[2]),
            ("......", &[2]),
            ("i->j->k", &[1]),
            ("é", &[1]),
            ("", &[]),
        ] {
            assert!(Equation::parse(text, ranks).is_err(), "{text}");
        }
    }
}
