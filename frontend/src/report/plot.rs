//! Curves as an SVG picture.

use plotters::prelude::*;

/// One curve.
pub(crate) struct Line {
    /// Its name in the legend.
    pub(crate) name: String,
    /// Points from left to right; those that are no numbers are left out.
    pub(crate) points: Vec<(f64, f64)>,
}

/// A picture of curves over common axes.
pub(crate) struct Plot {
    /// Stands on top.
    pub(crate) title: String,
    /// What the horizontal axis counts.
    pub(crate) x: &'static str,
    /// What the vertical axis counts.
    pub(crate) y: &'static str,
    /// The curves.
    pub(crate) lines: Vec<Line>,
}

/// Pixels of the part that holds the curves.
const WIDTH: u32 = 760;
/// Pixels of a line of the legend.
const ROW: u32 = 18;
/// Pixels of a letter of the legend, about.
const LETTER: usize = 7;
/// Letters of a name that are shown: its end, where names of layers differ.
const LETTERS: usize = 48;

impl Plot {
    /// The picture, with a legend beside the curves.
    ///
    /// # Errors
    /// A message if it can't be drawn.
    pub(crate) fn svg(&self) -> Result<String, String> {
        let names: Vec<String> = self.lines.iter().map(|line| shortened(&line.name)).collect();
        let letters = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
        let legend = u32::try_from(60 + LETTER * letters).unwrap_or(u32::MAX);
        let rows = u32::try_from(names.len()).unwrap_or(u32::MAX).saturating_mul(ROW).saturating_add(80);
        let mut svg = String::new();
        self.draw(&mut svg, &names, (WIDTH.saturating_add(legend), rows.max(520))).map_err(|e| e.to_string())?;
        Ok(svg)
    }

    fn draw(&self, svg: &mut String, names: &[String], size: (u32, u32)) -> Result<(), Box<dyn std::error::Error>> {
        let root = SVGBackend::with_string(svg, size).into_drawing_area();
        root.fill(&WHITE)?;
        let (left, right) = root.split_horizontally(WIDTH);
        let finite = |&(x, y): &(f64, f64)| (x.is_finite() && y.is_finite()).then_some((x, y));
        let points = || self.lines.iter().flat_map(|line| line.points.iter().filter_map(finite));
        let (x_range, y_range) = (range(points().map(|(x, _)| x)), range(points().map(|(_, y)| y)));
        let mut chart = ChartBuilder::on(&left)
            .caption(&self.title, ("sans-serif", 18))
            .margin(12)
            .x_label_area_size(44)
            .y_label_area_size(64)
            .build_cartesian_2d(x_range.0..x_range.1, y_range.0..y_range.1)?;
        chart
            .configure_mesh()
            .x_desc(self.x)
            .y_desc(self.y)
            .light_line_style(TRANSPARENT)
            .label_style(("sans-serif", 13))
            .draw()?;
        for (i, (line, name)) in self.lines.iter().zip(names).enumerate() {
            // Neighbouring layers are told apart by hue, and lines of the same hue by lightness.
            let hue = (i as f64 * 0.618_033_988_75).fract();
            let color = HSLColor(hue, 0.75, if i % 2 == 0 { 0.35 } else { 0.55 });
            let path: Vec<(f64, f64)> = line.points.iter().filter_map(finite).collect();
            chart.draw_series(LineSeries::new(path.iter().copied(), color.stroke_width(2)))?;
            chart.draw_series(path.into_iter().map(|point| Circle::new(point, 3, color.filled())))?;
            let y = i32::try_from(i)? * i32::try_from(ROW)? + 44;
            right.draw(&PathElement::new(vec![(8, y), (32, y)], color.stroke_width(2)))?;
            right.draw(&Text::new(name.clone(), (40, y - 7), ("sans-serif", 13)))?;
        }
        root.present()?;
        Ok(())
    }
}

/// The end of a name that is too long.
fn shortened(name: &str) -> String {
    let count = name.chars().count();
    if count <= LETTERS {
        name.to_owned()
    } else {
        format!("…{}", name.chars().skip(count - LETTERS).collect::<String>())
    }
}

/// A range with some room around the numbers.
fn range(numbers: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = numbers.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| (low.min(x), high.max(x)));
    match high - low {
        width if width > 0.0 => (low - 0.02 * width, high + 0.02 * width),
        0.0 => (low - 0.5, high + 0.5),
        _ => (0.0, 1.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_drawn_and_named() {
        let line =
            |name: &str, ys: [f64; 3]| Line { name: name.to_owned(), points: (0..3).map(f64::from).zip(ys).collect() };
        let lines = vec![line("first", [1.0, 0.5, f64::NAN]), line(&"long".repeat(20), [1.0, 1.0, 0.0])];
        let plot = Plot { title: "t < u".to_owned(), x: "removed (%)", y: "accuracy (%)", lines };
        let svg = plot.svg().unwrap();
        assert_eq!(svg, plot.svg().unwrap());
        for text in ["t &lt; u", "removed (%)", "accuracy (%)", "first", "…"] {
            assert!(svg.contains(text), "{text} is missing");
        }
        // A number that is none is no point.
        assert_eq!(svg.matches("<circle").count(), 5);
        assert!(!svg.contains("NaN"));
        let empty = Plot { title: String::new(), x: "", y: "", lines: Vec::new() };
        assert!(empty.svg().unwrap().starts_with("<svg"));
    }
}
