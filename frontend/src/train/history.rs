//! What happened so far: an entry for each epoch and each stage, as JSON and as a curve.

use plotters::prelude::*;
use serde::{Deserialize, Serialize};

use crate::error::Error;

/// The history of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// The recipe.
    pub recipe: String,
    /// Where everything random started from.
    pub seed: u64,
    /// Epochs in order, counted through all stages.
    pub epochs: Vec<EpochRow>,
    /// Stages that are done.
    pub stages: Vec<StageRow>,
}

/// One epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochRow {
    /// The stage it belongs to, from 0.
    pub stage: usize,
    /// Its number within the stage, from 1.
    pub epoch: usize,
    /// The mean loss of its steps, without regularisation.
    pub loss: f64,
    /// The test error at its end, in percent.
    pub error: f64,
    /// The share of weights that are zero.
    pub sparsity: f64,
}

/// One stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageRow {
    /// Its name.
    pub name: String,
    /// The test error at its end, in percent.
    pub error: f64,
    /// Weights and biases.
    pub params: usize,
    /// Those that are not zero.
    pub nonzero: usize,
    /// Bytes of the model as an `.optc`, every constant in its smallest encoding.
    pub optc_bytes: usize,
}

/// The size of a curve in pixels.
const SIZE: (u32, u32) = (900, 480);

impl History {
    /// The curve of loss and test error over epochs, an SVG picture.
    ///
    /// # Errors
    /// [`Error::Usage`] if it can't be drawn.
    pub fn svg(&self) -> Result<String, Error> {
        let mut text = String::new();
        self.draw(&mut text).map_err(|e| Error::Usage(format!("the curve can't be drawn: {e}")))?;
        Ok(text)
    }

    fn draw(&self, text: &mut String) -> Result<(), Box<dyn std::error::Error + '_>> {
        let area = SVGBackend::with_string(text, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let top = |values: &mut dyn Iterator<Item = f64>| values.fold(0.0, f64::max).max(1e-3) * 1.05;
        let (loss, error) = (
            top(&mut self.epochs.iter().map(|row| row.loss)),
            top(&mut self.epochs.iter().map(|row| row.error).filter(|e| *e < 20.0)),
        );
        let end = self.epochs.len().max(1) as f64 + 0.5;
        let mut chart = ChartBuilder::on(&area)
            .caption(format!("{}, seed {}", self.recipe, self.seed), ("sans-serif", 18))
            .margin(12)
            .x_label_area_size(36)
            .y_label_area_size(54)
            .right_y_label_area_size(54)
            .build_cartesian_2d(0.5..end, 0.0..error)?
            .set_secondary_coord(0.5..end, 0.0..loss);
        chart.configure_mesh().x_desc("epoch").y_desc("test error, %").light_line_style(WHITE).draw()?;
        chart.configure_secondary_axes().y_desc("training loss").draw()?;
        let points =
            |f: fn(&EpochRow) -> f64| self.epochs.iter().enumerate().map(move |(i, row)| (1.0 + i as f64, f(row)));
        chart
            .draw_series(LineSeries::new(points(|row| row.error).map(|(x, y)| (x, y.min(error))), &RED))?
            .label("test error")
            .legend(|(x, y)| PathElement::new([(x, y), (x + 18, y)], RED));
        chart
            .draw_secondary_series(LineSeries::new(points(|row| row.loss), &BLUE))?
            .label("training loss")
            .legend(|(x, y)| PathElement::new([(x, y), (x + 18, y)], BLUE));
        for (i, pair) in self.epochs.windows(2).enumerate() {
            if pair[0].stage != pair[1].stage {
                let x = i as f64 + 1.5;
                chart.draw_series(LineSeries::new([(x, 0.0), (x, error)], BLACK.mix(0.3)))?;
            }
        }
        chart.configure_series_labels().background_style(WHITE.mix(0.8)).border_style(BLACK.mix(0.3)).draw()?;
        area.present()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_is_a_curve_and_comes_back_from_json() {
        let row = |stage, epoch| EpochRow { stage, epoch, loss: 0.5, error: 3.0, sparsity: 0.25 };
        let epochs = vec![row(0, 1), row(0, 2), row(1, 1)];
        let history = History { recipe: "r".to_owned(), seed: 3, epochs, stages: Vec::new() };
        let svg = history.svg().unwrap();
        assert!(svg.starts_with("<svg") && svg.contains("test error") && svg.contains("r, seed 3"));
        let json = crate::report::to_json(&history);
        assert_eq!(serde_json::from_str::<History>(&json).unwrap(), history);
        assert!(History::default().svg().unwrap().starts_with("<svg"));
    }
}
