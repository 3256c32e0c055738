//! Windows that slide over spatial axes: the arithmetic that convolutions and pools share.
//!
//! Along one axis of extent n, element k of the window at output o lies at `o·stride + k·dilation −
//! begin` and reads as border if that is outside `0..n`. [`Window`] holds the attributes, which come
//! from files and may be absurd; whatever it returns has been checked, so the arithmetic of
//! [`WindowAxis`] can't overflow.

use super::conv::AutoPad;
use crate::error::TypeError;
use crate::types::Dim;

/// The attributes of a sliding window as operators declare them. Empty lists mean ones (strides,
/// dilations) or zeros (pads).
#[derive(Clone, Debug)]
pub struct Window<'a> {
    /// Extent of the window along each spatial axis.
    pub kernel: Vec<Dim>,
    /// Step of the window along each spatial axis.
    pub strides: &'a [usize],
    /// Border elements: all beginnings, then all ends. Not looked at unless `auto_pad` is explicit.
    pub pads: &'a [usize],
    /// Distance of neighbouring window elements.
    pub dilations: &'a [usize],
    /// Takes the place of `pads` unless explicit.
    pub auto_pad: AutoPad,
    /// Whether a window that hangs over the end counts, unless it starts beyond input and front border.
    pub ceil: bool,
}

/// A window along one axis of known extents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowAxis {
    /// Elements the window slides over, without border.
    pub input: usize,
    /// Elements of the window.
    pub kernel: usize,
    /// Step of the window.
    pub stride: usize,
    /// Distance of neighbouring window elements.
    pub dilation: usize,
    /// Border before the first element.
    pub begin: usize,
    /// Border after the last element.
    pub end: usize,
    /// Number of window positions.
    pub out: usize,
}

impl WindowAxis {
    /// Which window positions see an element at kernel element `k`, and where in the input the first of
    /// them reads; the positions that follow read `stride` elements further each.
    pub fn positions(&self, k: usize) -> (std::ops::Range<usize>, usize) {
        let shift = k * self.dilation;
        let first = self.begin.saturating_sub(shift).div_ceil(self.stride).min(self.out);
        let last = (self.input + self.begin).saturating_sub(shift).div_ceil(self.stride).clamp(first, self.out);
        let read = if first < last { first * self.stride + shift - self.begin } else { 0 };
        (first..last, read)
    }

    /// Which kernel elements of the window at position `o` see an element, and where in the input the
    /// first of them reads; those that follow read `dilation` elements further each.
    pub fn elements(&self, o: usize) -> (std::ops::Range<usize>, usize) {
        let at = o * self.stride;
        let first = self.begin.saturating_sub(at).div_ceil(self.dilation).min(self.kernel);
        let last = (self.input + self.begin).saturating_sub(at).div_ceil(self.dilation).clamp(first, self.kernel);
        let read = if first < last { at + first * self.dilation - self.begin } else { 0 };
        (first..last, read)
    }

    /// How many kernel elements of the window at position `o` lie on the input or its border.
    pub fn covered(&self, o: usize) -> usize {
        let room = (self.input + self.begin + self.end).saturating_sub(o * self.stride);
        room.div_ceil(self.dilation).min(self.kernel)
    }

    /// Whether the window is a single element that visits every input element once.
    pub fn is_identity(&self) -> bool {
        self.kernel == 1 && self.stride == 1 && self.begin == 0 && self.end == 0
    }
}

/// The parameters of one axis, of which the extents may not be known.
struct Params {
    kernel: Option<usize>,
    stride: usize,
    dilation: usize,
    begin: usize,
    end: usize,
}

impl Params {
    /// `(kernel − 1)·dilation + 1`, if the kernel is known.
    fn span(&self) -> Result<Option<usize>, TypeError> {
        self.kernel.map(|k| span(k, self.dilation)).transpose()
    }
}

impl Window<'_> {
    /// The number of window positions along each spatial axis: known where extents are known, the
    /// extent itself where the window leaves it as it is.
    ///
    /// # Errors
    /// If the attributes do not fit each other or the window does not fit into an axis.
    pub fn out_shape(&self, spatial: &[Dim]) -> Result<Vec<Dim>, TypeError> {
        self.per_axis(spatial, |params, n| {
            if self.is_same() {
                return Ok(match n.fixed() {
                    Some(n) => Dim::Fixed(n.div_ceil(params.stride)),
                    None if params.stride == 1 => n.clone(),
                    None => Dim::Any,
                });
            }
            let span = params.span()?;
            match (n.fixed(), span) {
                (Some(n), Some(_)) => self.resolve(params, n).map(|axis| Dim::Fixed(axis.out)),
                (None, Some(span)) if params.stride == 1 && span - 1 == sum(params.begin, params.end)? => Ok(n.clone()),
                _ => Ok(Dim::Any),
            }
        })
    }

    /// The window along each spatial axis of the given extents.
    ///
    /// # Errors
    /// As [`Window::out_shape`], and if an extent of the kernel is not known.
    pub fn axes(&self, spatial: &[usize]) -> Result<Vec<WindowAxis>, TypeError> {
        let spatial: Vec<Dim> = spatial.iter().copied().map(Dim::Fixed).collect();
        self.per_axis(&spatial, |params, n| {
            let n = n.fixed().expect("the caller gives fixed extents");
            self.resolve(params, n)
        })
    }

    /// The result extents of a transposed convolution with this window; `ceil` has no meaning here.
    ///
    /// # Errors
    /// If the attributes do not fit each other, or the pads cut away more than there is.
    pub fn transposed_shape(
        &self,
        spatial: &[Dim],
        output_padding: &[usize],
        output_shape: &[usize],
    ) -> Result<Vec<Dim>, TypeError> {
        let lists = TransposedLists::new(output_padding, output_shape, spatial.len())?;
        let mut at = 0..;
        self.per_axis(spatial, |params, n| {
            let i = at.next().expect("the range has no end");
            let (extra, wanted) = (lists.padding(i), lists.shape(i));
            match (n.fixed(), params.span()?) {
                (Some(n), Some(_)) => {
                    self.resolve_transposed(params, n, extra, wanted).map(|axis| Dim::Fixed(axis.input))
                }
                _ if wanted.is_some() => Ok(wanted.map_or(Dim::Any, Dim::Fixed)),
                (Some(n), None) if self.is_same() => product(n, params.stride).map(Dim::Fixed),
                (None, _) if self.is_same() && params.stride == 1 => Ok(n.clone()),
                (None, Some(span))
                    if !self.is_same()
                        && params.stride == 1
                        && sum(span - 1, extra)? == sum(params.begin, params.end)? =>
                {
                    Ok(n.clone())
                }
                _ => Ok(Dim::Any),
            }
        })
    }

    /// A transposed convolution as the convolution whose gradient it is: `input` of each axis is an
    /// extent of the result, `out` the given extent.
    ///
    /// # Errors
    /// As [`Window::transposed_shape`], and if an extent of the kernel is not known.
    pub fn transposed_axes(
        &self,
        spatial: &[usize],
        output_padding: &[usize],
        output_shape: &[usize],
    ) -> Result<Vec<WindowAxis>, TypeError> {
        let lists = TransposedLists::new(output_padding, output_shape, spatial.len())?;
        let spatial: Vec<Dim> = spatial.iter().copied().map(Dim::Fixed).collect();
        let mut at = 0..;
        self.per_axis(&spatial, |params, n| {
            let i = at.next().expect("the range has no end");
            let n = n.fixed().expect("the caller gives fixed extents");
            self.resolve_transposed(params, n, lists.padding(i), lists.shape(i))
        })
    }

    fn is_same(&self) -> bool {
        matches!(self.auto_pad, AutoPad::SameUpper | AutoPad::SameLower)
    }

    /// Checks the attributes and runs `f` on the parameters and the extent of each axis.
    fn per_axis<T>(
        &self,
        spatial: &[Dim],
        mut f: impl FnMut(&Params, &Dim) -> Result<T, TypeError>,
    ) -> Result<Vec<T>, TypeError> {
        let rank = spatial.len();
        check_len("kernel", self.kernel.len(), rank)?;
        if !self.strides.is_empty() {
            check_len("strides", self.strides.len(), rank)?;
        }
        if !self.dilations.is_empty() {
            check_len("dilations", self.dilations.len(), rank)?;
        }
        let explicit = self.auto_pad == AutoPad::Explicit && !self.pads.is_empty();
        if explicit {
            check_len("pads", self.pads.len(), 2 * rank)?;
        }
        let mut results = Vec::with_capacity(rank);
        for (i, extent) in spatial.iter().enumerate() {
            let params = Params {
                kernel: self.kernel[i].fixed(),
                stride: self.strides.get(i).copied().unwrap_or(1),
                dilation: self.dilations.get(i).copied().unwrap_or(1),
                begin: if explicit { self.pads[i] } else { 0 },
                end: if explicit { self.pads[rank + i] } else { 0 },
            };
            for (name, n) in
                [("stride", Some(params.stride)), ("dilation", Some(params.dilation)), ("kernel", params.kernel)]
            {
                if n == Some(0) {
                    return Err(TypeError::Attribute(format!("the {name} of spatial axis {i} is 0")));
                }
            }
            results.push(f(&params, extent)?);
        }
        Ok(results)
    }

    fn resolve(&self, params: &Params, n: usize) -> Result<WindowAxis, TypeError> {
        let kernel = params.kernel.ok_or_else(unknown_kernel)?;
        let &Params { stride, dilation, mut begin, mut end, .. } = params;
        let span = span(kernel, dilation)?;
        let out = if self.is_same() {
            let out = n.div_ceil(stride);
            let covered = if out == 0 { 0 } else { sum(product(out - 1, stride)?, span)? };
            (begin, end) = self.distribute(covered.saturating_sub(n));
            sum(n, sum(begin, end)?)?;
            out
        } else {
            let padded = sum(n, sum(begin, end)?)?;
            let room = padded.checked_sub(span).ok_or_else(|| {
                TypeError::Shapes(format!("a window of {span} elements does not fit into {padded} with border"))
            })?;
            let whole = room / stride + 1;
            // `whole · stride` is where one more window would start; it must not be in the end border.
            let hangs_over = self.ceil && room % stride != 0 && whole.saturating_mul(stride) < n + begin;
            whole + usize::from(hangs_over)
        };
        Ok(WindowAxis { input: n, kernel, stride, dilation, begin, end, out })
    }

    fn resolve_transposed(
        &self,
        params: &Params,
        n: usize,
        extra: usize,
        wanted: Option<usize>,
    ) -> Result<WindowAxis, TypeError> {
        let &Params { stride, dilation, mut begin, mut end, .. } = params;
        let wanted = match wanted {
            None if self.is_same() => Some(product(n, stride)?),
            wanted => wanted,
        };
        let kernel = params.kernel.ok_or_else(unknown_kernel)?;
        let steps = n.checked_sub(1).ok_or_else(|| TypeError::Shapes("a spatial axis is empty".into()))?;
        let full = sum(sum(product(steps, stride)?, span(kernel, dilation)?)?, extra)?;
        let input = match wanted {
            Some(wanted) => {
                (begin, end) = self.distribute(full.saturating_sub(wanted));
                wanted
            }
            None => full.checked_sub(sum(begin, end)?).ok_or_else(|| {
                TypeError::Attribute(format!("pads {begin} and {end} cut more than the {full} elements there are"))
            })?,
        };
        sum(input, sum(begin, end)?)?;
        Ok(WindowAxis { input, kernel, stride, dilation, begin, end, out: n })
    }

    /// Splits a border into beginning and end; `SameUpper` gives the odd element to the end.
    fn distribute(&self, total: usize) -> (usize, usize) {
        let small = total / 2;
        if self.auto_pad == AutoPad::SameUpper { (small, total - small) } else { (total - small, small) }
    }
}

/// The lists only a transposed convolution has.
struct TransposedLists<'a> {
    padding: &'a [usize],
    shape: &'a [usize],
}

impl<'a> TransposedLists<'a> {
    fn new(padding: &'a [usize], shape: &'a [usize], rank: usize) -> Result<TransposedLists<'a>, TypeError> {
        if !padding.is_empty() {
            check_len("output_padding", padding.len(), rank)?;
        }
        if !shape.is_empty() {
            check_len("output_shape", shape.len(), rank)?;
        }
        Ok(TransposedLists { padding, shape })
    }

    fn padding(&self, i: usize) -> usize {
        self.padding.get(i).copied().unwrap_or(0)
    }

    fn shape(&self, i: usize) -> Option<usize> {
        self.shape.get(i).copied()
    }
}

fn check_len(name: &str, got: usize, expected: usize) -> Result<(), TypeError> {
    if got == expected {
        return Ok(());
    }
    Err(TypeError::Attribute(format!("{name} has {got} elements, expected {expected}")))
}

fn unknown_kernel() -> TypeError {
    TypeError::Shapes("the extent of the kernel is not known".into())
}

fn span(kernel: usize, dilation: usize) -> Result<usize, TypeError> {
    sum(product(kernel.saturating_sub(1), dilation)?, 1)
}

/// Sums and products stay below this, so that sums of a few of them can't overflow.
const LIMIT: usize = 1 << 60;

fn sum(a: usize, b: usize) -> Result<usize, TypeError> {
    a.checked_add(b).filter(|&n| n < LIMIT).ok_or_else(too_large)
}

fn product(a: usize, b: usize) -> Result<usize, TypeError> {
    a.checked_mul(b).filter(|&n| n < LIMIT).ok_or_else(too_large)
}

fn too_large() -> TypeError {
    TypeError::Attribute("strides, pads, dilations or kernel are too large".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(n: usize, kernel: usize, stride: usize, pads: [usize; 2], auto_pad: AutoPad, ceil: bool) -> WindowAxis {
        let kernel = [Dim::Fixed(kernel)];
        let window =
            Window { kernel: kernel.to_vec(), strides: &[stride], pads: &pads, dilations: &[], auto_pad, ceil };
        let axes = window.axes(&[n]).expect("the window fits");
        assert_eq!(window.out_shape(&[Dim::Fixed(n)]), Ok(vec![Dim::Fixed(axes[0].out)]));
        axes[0]
    }

    #[test]
    fn explicit_pads_round_down_unless_ceil() {
        assert_eq!(one(7, 3, 2, [1, 1], AutoPad::Explicit, false).out, 4);
        assert_eq!(one(6, 3, 2, [0, 0], AutoPad::Explicit, false).out, 2);
        assert_eq!(one(6, 3, 2, [0, 0], AutoPad::Explicit, true).out, 3);
    }

    #[test]
    fn no_window_starts_in_the_end_border() {
        // (2 + 1 - 1)/2 + 1 would be 2 by rounding up alone, its second window starting at 2 = the end.
        assert_eq!(one(2, 2, 2, [0, 1], AutoPad::Explicit, true).out, 1);
        assert_eq!(one(3, 2, 2, [0, 0], AutoPad::Explicit, true).out, 2);
    }

    #[test]
    fn same_pads_put_the_odd_element_where_the_name_says() {
        let upper = one(5, 2, 1, [0, 0], AutoPad::SameUpper, false);
        let lower = one(5, 2, 1, [9, 9], AutoPad::SameLower, false);
        assert_eq!((upper.begin, upper.end, upper.out), (0, 1, 5));
        assert_eq!((lower.begin, lower.end, lower.out), (1, 0, 5));
        assert_eq!(one(5, 3, 2, [0, 0], AutoPad::SameUpper, false).out, 3);
        assert_eq!(one(5, 3, 2, [7, 7], AutoPad::Valid, false).out, 2);
    }

    #[test]
    fn positions_and_elements_agree_with_the_definition() {
        let axes = [
            WindowAxis { input: 5, kernel: 3, stride: 2, dilation: 2, begin: 3, end: 1, out: 3 },
            WindowAxis { input: 1, kernel: 2, stride: 1, dilation: 2, begin: 1, end: 1, out: 1 },
            WindowAxis { input: 6, kernel: 3, stride: 1, dilation: 1, begin: 0, end: 4, out: 8 },
        ];
        for axis in axes {
            let read = |o: usize, k: usize| {
                (o * axis.stride + k * axis.dilation).checked_sub(axis.begin).filter(|&i| i < axis.input)
            };
            for k in 0..axis.kernel {
                let seen: Vec<usize> = (0..axis.out).filter(|&o| read(o, k).is_some()).collect();
                let (positions, first) = axis.positions(k);
                assert_eq!(positions.clone().collect::<Vec<_>>(), seen);
                assert_eq!(seen.first().map_or(0, |&o| read(o, k).unwrap()), first);
            }
            for o in 0..axis.out {
                let seen: Vec<usize> = (0..axis.kernel).filter(|&k| read(o, k).is_some()).collect();
                let (elements, first) = axis.elements(o);
                assert_eq!(elements.clone().collect::<Vec<_>>(), seen);
                assert_eq!(seen.first().map_or(0, |&k| read(o, k).unwrap()), first);
                let end = axis.input + axis.begin + axis.end;
                let covered = (0..axis.kernel).filter(|k| o * axis.stride + k * axis.dilation < end).count();
                assert_eq!(axis.covered(o), covered);
            }
        }
    }

    #[test]
    fn symbols_pass_where_the_window_keeps_the_extent() {
        let out = |kernel: Dim, stride: usize, pad: usize, auto_pad: AutoPad| {
            let window = Window {
                kernel: vec![kernel],
                strides: &[stride],
                pads: &[pad, pad],
                dilations: &[],
                auto_pad,
                ceil: false,
            };
            window.out_shape(&[Dim::sym("h")]).expect("the attributes fit").remove(0)
        };
        assert_eq!(out(Dim::Fixed(3), 1, 1, AutoPad::Explicit), Dim::sym("h"));
        assert_eq!(out(Dim::Fixed(1), 1, 0, AutoPad::Valid), Dim::sym("h"));
        assert_eq!(out(Dim::Any, 1, 0, AutoPad::SameLower), Dim::sym("h"));
        assert_eq!(out(Dim::Fixed(3), 2, 1, AutoPad::Explicit), Dim::Any);
        assert_eq!(out(Dim::Fixed(3), 1, 0, AutoPad::Explicit), Dim::Any);
        assert_eq!(out(Dim::Any, 1, 1, AutoPad::Explicit), Dim::Any);
    }

    #[test]
    fn transposed_extents_follow_the_formula() {
        let kernel = [Dim::Fixed(3)];
        let window = |pads: &'static [usize], auto_pad: AutoPad| Window {
            kernel: kernel.to_vec(),
            strides: &[2],
            pads,
            dilations: &[],
            auto_pad,
            ceil: false,
        };
        let input = |window: Window<'_>, padding: &[usize], shape: &[usize]| {
            let axis = window.transposed_axes(&[4], padding, shape).expect("the window fits")[0];
            assert_eq!(window.transposed_shape(&[Dim::Fixed(4)], padding, shape), Ok(vec![Dim::Fixed(axis.input)]));
            (axis.input, axis.begin, axis.end)
        };
        assert_eq!(input(window(&[1, 1], AutoPad::Explicit), &[], &[]), (7, 1, 1));
        assert_eq!(input(window(&[1, 1], AutoPad::Explicit), &[1], &[]), (8, 1, 1));
        assert_eq!(input(window(&[], AutoPad::SameUpper), &[], &[]), (8, 0, 1));
        assert_eq!(input(window(&[], AutoPad::SameLower), &[], &[]), (8, 1, 0));
        assert_eq!(input(window(&[], AutoPad::Explicit), &[], &[10]), (10, 0, 0));
        assert!(window(&[5, 5], AutoPad::Explicit).transposed_axes(&[4], &[], &[]).is_err());
        assert!(window(&[], AutoPad::Explicit).transposed_axes(&[0], &[], &[]).is_err());
    }

    #[test]
    fn absurd_attributes_are_errors() {
        let huge = usize::MAX;
        for (kernel, strides, pads, dilations) in [
            (3, vec![0], vec![], vec![]),
            (3, vec![1, 1], vec![], vec![]),
            (3, vec![], vec![1], vec![]),
            (3, vec![], vec![], vec![0]),
            (0, vec![], vec![], vec![]),
            (9, vec![], vec![], vec![]),
            (3, vec![], vec![huge, huge], vec![]),
            (3, vec![], vec![1 << 60, 1], vec![]),
            (3, vec![], vec![], vec![huge]),
            (huge, vec![], vec![], vec![2]),
        ] {
            let kernel = [Dim::Fixed(kernel)];
            for auto_pad in [AutoPad::Explicit, AutoPad::Valid, AutoPad::SameUpper] {
                let window = Window {
                    kernel: kernel.to_vec(),
                    strides: &strides,
                    pads: &pads,
                    dilations: &dilations,
                    auto_pad,
                    ceil: true,
                };
                if auto_pad == AutoPad::Explicit {
                    assert!(window.axes(&[4]).is_err(), "{window:?}");
                    assert!(window.out_shape(&[4.into()]).is_err(), "{window:?}");
                }
                // Whatever the other forms of padding make of these, they must not panic.
                let _ = (window.axes(&[4]), window.out_shape(&[Dim::Any]));
                let _ = window.transposed_axes(&[4], &[huge], &[]);
                let _ = window.transposed_shape(&[4.into()], &[], &[huge]);
            }
        }
        let kernel = [Dim::Fixed(1)];
        let window = Window {
            kernel: kernel.to_vec(),
            strides: &[huge],
            pads: &[],
            dilations: &[huge],
            auto_pad: AutoPad::Valid,
            ceil: true,
        };
        let axis = window.axes(&[4]).expect("one element fits")[0];
        assert_eq!((axis.out, axis.positions(0), axis.elements(0)), (1, (0..1, 0), (0..1, 0)));
    }
}
