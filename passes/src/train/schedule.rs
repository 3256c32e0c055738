//! Learning rates over time. The host computes them; a step takes its rate as an input.

use std::f64::consts::PI;

/// The learning rate of each step: a course, after a linear warm-up (Goyal et al. 2017).
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    /// The learning rate the course starts from.
    pub rate: f64,
    /// Steps over which the rate rises linearly to its course; 0 for none.
    pub warm_up: u64,
    /// The course.
    pub course: Course,
}

/// How a learning rate falls.
#[derive(Clone, Debug, PartialEq)]
pub enum Course {
    /// Not at all.
    Constant,
    /// By a factor every so many steps.
    Step {
        /// Steps between two falls.
        every: u64,
        /// What the rate is multiplied by.
        factor: f64,
    },
    /// As half a cosine wave (Loshchilov and Hutter 2017, equation 5).
    Cosine {
        /// The step at which it has fallen all the way.
        steps: u64,
        /// The rate it ends at.
        end: f64,
    },
    /// Along a line.
    Linear {
        /// The step at which it has fallen all the way.
        steps: u64,
        /// The rate it ends at.
        end: f64,
    },
}

impl Schedule {
    /// The same rate always.
    pub fn constant(rate: f64) -> Schedule {
        Schedule { rate, warm_up: 0, course: Course::Constant }
    }

    /// The rate of a step, counted from 0.
    pub fn at(&self, step: u64) -> f64 {
        let part = |steps: u64| if steps == 0 { 1.0 } else { (step as f64 / steps as f64).min(1.0) };
        let course = match self.course {
            Course::Constant => self.rate,
            Course::Step { every, factor } => self.rate * factor.powf((step / every.max(1)) as f64),
            Course::Cosine { steps, end } => end + (self.rate - end) * 0.5 * (1.0 + (PI * part(steps)).cos()),
            Course::Linear { steps, end } => self.rate + (end - self.rate) * part(steps),
        };
        if step < self.warm_up { course * (step + 1) as f64 / (self.warm_up + 1) as f64 } else { course }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_rise_and_fall_as_they_should() {
        let rates = |warm_up: u64, course: Course, steps: &[u64]| -> Vec<f64> {
            let schedule = Schedule { rate: 0.8, warm_up, course };
            steps.iter().map(|&step| (schedule.at(step) * 1e9).round() / 1e9).collect()
        };
        assert_eq!(rates(3, Course::Constant, &[0, 1, 2, 3, 100]), [0.2, 0.4, 0.6, 0.8, 0.8]);
        assert_eq!(rates(0, Course::Step { every: 10, factor: 0.5 }, &[0, 9, 10, 25]), [0.8, 0.8, 0.4, 0.2]);
        assert_eq!(rates(0, Course::Cosine { steps: 8, end: 0.0 }, &[0, 4, 8, 99]), [0.8, 0.4, 0.0, 0.0]);
        assert_eq!(rates(0, Course::Linear { steps: 4, end: 0.4 }, &[0, 1, 4, 9]), [0.8, 0.7, 0.4, 0.4]);
        assert_eq!(rates(0, Course::Linear { steps: 0, end: 0.4 }, &[0]), [0.4]);
    }
}
