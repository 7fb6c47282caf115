//! The metrics page, read as Prometheus would.

use std::fmt;

/// A metrics page.
#[derive(Debug)]
pub struct Page(String);

impl Page {
    pub(crate) fn new(text: String) -> Self {
        Self(text)
    }

    /// The sum of all series of this name that have these labels; zero where there is none.
    #[must_use]
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
        let value = |line: &str| {
            let (series, value) = line.rsplit_once(' ')?;
            let (found, rest) = series.split_once('{').unwrap_or((series, ""));
            let pairs: Vec<&str> = rest.trim_end_matches('}').split(',').collect();
            let fits = found == name && labels.iter().all(|label| pairs.contains(&label.as_str()));
            fits.then(|| value.parse::<f64>().ok()).flatten()
        };
        self.0.lines().filter(|line| !line.starts_with('#')).filter_map(value).sum()
    }
}

impl Page {
    /// The series of this name that are not zero.
    #[must_use]
    pub fn counted(&self, name: &str) -> String {
        let series = self.0.lines().filter(|line| line.starts_with(name) && !line.ends_with(" 0"));
        series.map(|line| format!("{line}\n")).collect()
    }
}

impl fmt::Display for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
