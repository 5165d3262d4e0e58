//! What is printed: progress at once, the results together at the end.

#[derive(Default)]
pub struct Report {
    lines: Vec<(String, String)>,
}

impl Report {
    pub fn progress(&self, text: &str) {
        eprintln!("{text}");
    }

    pub fn line(&mut self, name: &str, text: String) {
        eprintln!("{name}: {text}");
        self.lines.push((name.to_owned(), text));
    }

    /// The median of the rounds' ratios of two rates: each round's two values were measured one after the other.
    pub fn ratio(&mut self, name: &str, values: &[f64], bases: &[f64], goal: &str) {
        self.ratio_of(name, values, bases, |value| format!("{value:.0}/s"), goal);
    }

    /// The same of two times.
    pub fn times(&mut self, name: &str, values: &[f64], bases: &[f64], unit: &str, goal: &str) {
        self.ratio_of(name, values, bases, |value| format!("{value:.2} {unit}"), goal);
    }

    fn ratio_of(&mut self, name: &str, values: &[f64], bases: &[f64], show: impl Fn(f64) -> String, goal: &str) {
        let ratios: Vec<f64> = values.iter().zip(bases).map(|(value, base)| value / base).collect();
        let (low, high) =
            ratios.iter().fold((f64::MAX, f64::MIN), |(low, high), ratio| (low.min(*ratio), high.max(*ratio)));
        self.line(
            name,
            format!(
                "{:.2} ({low:.2} to {high:.2}; {} over {}; {goal})",
                median(&ratios),
                show(median(values)),
                show(median(bases))
            ),
        );
    }

    pub fn print(&self) {
        let width = self.lines.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
        println!();
        for (name, text) in &self.lines {
            println!("{name:width$}  {text}");
        }
    }
}

pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}
