//! The plots of the summary, as SVG.

use care_core::{Error, ErrorKind, Result, clip};
use plotters::coord::Shift;
use plotters::prelude::*;

use super::tables::Summary;
use crate::compare::Comparison;

const WIDTH: u32 = 860;
/// Height of a bar or an interval with its label.
const ROW: u32 = 22;
const BETTER: RGBColor = RGBColor(46, 125, 80);
const WORSE: RGBColor = RGBColor(190, 60, 50);
/// One colour per model, repeated if there are more models.
const MODELS: [RGBColor; 5] = [
    RGBColor(120, 130, 145),
    RGBColor(45, 105, 165),
    RGBColor(200, 130, 40),
    RGBColor(110, 80, 150),
    RGBColor(60, 140, 120),
];
/// Width of the labels on the left, at most.
const LABELS: u32 = 420;
/// Height of a line of text in pixels, of which SVG has 12 for the font. plotters' default, a share of the plot, is
/// unreadable in one of few rows.
const TEXT: i32 = 15;
/// The width of a Latin letter in pixels, roughly; a Chinese one is twice as wide.
const LETTER: u32 = 6;

type Drawn = std::result::Result<(), Box<dyn std::error::Error>>;

/// One bar per task of a measure and model.
pub(super) fn scores(summary: &Summary, measure: &str) -> Result<String> {
    let tasks = summary.measures().remove(measure).unwrap_or_default();
    let bars: Vec<(String, f64, usize)> = tasks
        .into_iter()
        .flat_map(|task| {
            let models = summary.models.iter().enumerate();
            models.filter_map(move |(number, model)| {
                let label = format!("{task} · {}", model.name);
                Some((label, model.task(task)?.main_score, number))
            })
        })
        .collect();
    let low = bars.iter().map(|bar| bar.1).fold(0.0, f64::min);
    let labels: Vec<&str> = bars.iter().map(|bar| bar.0.as_str()).collect();
    svg(height(&labels), |area| {
        let mut chart = rows(area, low, 1.0, &labels, measure)?;
        chart.draw_series(bars.iter().enumerate().map(|(row, (_, score, model))| {
            let place = row as f64;
            Rectangle::new([(0.0, place + 0.2), (*score, place + 0.8)], MODELS[model % MODELS.len()].filled())
        }))?;
        chart.draw_series(bars.iter().enumerate().map(|(row, (_, score, _))| {
            Text::new(format!("{score:.3}"), (score.max(0.0) + 0.01, row as f64 + 0.25), ("sans-serif", TEXT))
        }))?;
        Ok(())
    })
}

/// The confidence interval of each difference in a measure, with a line at 0.
pub(super) fn intervals(summary: &Summary, measure: &str) -> Result<String> {
    let found: Vec<(String, &Comparison)> = summary
        .compared()
        .filter(|(_, comparison)| comparison.measure == measure)
        .map(|(model, comparison)| (format!("{} · {model}", comparison.task), comparison))
        .collect();
    if found.is_empty() {
        return Ok(String::new());
    }
    let reach = found.iter().filter_map(|(_, comparison)| comparison.interval);
    let reach = reach.map(|interval| interval.low.abs().max(interval.high.abs())).fold(0.001, f64::max) * 1.1;
    let labels: Vec<&str> = found.iter().map(|(label, _)| label.as_str()).collect();
    svg(height(&labels), |area| {
        let title = format!("{measure} minus {}", summary.baseline());
        let mut chart = rows(area, -reach, reach, &labels, &title)?;
        chart.draw_series([PathElement::new([(0.0, 0.0), (0.0, found.len() as f64)], BLACK.mix(0.5))])?;
        for (row, (_, comparison)) in found.iter().enumerate() {
            let place = row as f64 + 0.5;
            let Some(interval) = comparison.interval else { continue };
            // A difference is significant if its interval excludes 0.
            let color = if interval.low > 0.0 {
                BETTER
            } else if interval.high < 0.0 {
                WORSE
            } else {
                BLACK
            };
            chart.draw_series([PathElement::new(
                [(interval.low, place), (interval.high, place)],
                color.stroke_width(2),
            )])?;
            chart.draw_series([Circle::new((comparison.difference(), place), 4, color.filled())])?;
        }
        Ok(())
    })
}

/// The difference for each query, in descending order.
pub(super) fn queries(comparison: &Comparison) -> Result<String> {
    let mut differences: Vec<f64> = comparison.queries.iter().map(|(_, difference)| *difference).collect();
    differences.sort_by(|a, b| b.total_cmp(a));
    let reach = differences.iter().fold(0.001, |reach: f64, difference| reach.max(difference.abs())) * 1.05;
    svg(240, |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(10)
            .x_label_area_size(40)
            .y_label_area_size(60)
            .build_cartesian_2d(0.0..differences.len() as f64, -reach..reach)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(WHITE)
            .label_style(("sans-serif", TEXT))
            .axis_desc_style(("sans-serif", TEXT))
            .x_label_formatter(&|value| if value.fract() == 0.0 { value.to_string() } else { String::new() })
            .y_label_formatter(&|value| tick(*value))
            .x_desc("queries")
            .y_desc(format!("difference in {}", comparison.measure))
            .draw()?;
        chart.draw_series(differences.iter().enumerate().map(|(place, &difference)| {
            let color = if difference > 0.0 { BETTER } else { WORSE };
            Rectangle::new([(place as f64, 0.0), (place as f64 + 1.0, difference)], color.filled())
        }))?;
        Ok(())
    })
}

type Rows<'a> = ChartContext<
    'a,
    SVGBackend<'a>,
    Cartesian2d<plotters::coord::types::RangedCoordf64, plotters::coord::types::RangedCoordf64>,
>;

/// A chart with labelled rows, the first at the top, over an axis from `low` to `high` with a title.
fn rows<'a>(
    area: &DrawingArea<SVGBackend<'a>, Shift>,
    low: f64,
    high: f64,
    labels: &[&str],
    title: &str,
) -> std::result::Result<Rows<'a>, Box<dyn std::error::Error>> {
    let width = labels.iter().map(|label| width(label)).max().unwrap_or(0).min(LABELS);
    let mut chart = ChartBuilder::on(area)
        .margin(10)
        // For the number behind the longest bar.
        .margin_right(50)
        .x_label_area_size(40)
        .y_label_area_size(width + 10)
        .build_cartesian_2d(low..high, labels.len() as f64..0.0)?;
    chart
        .configure_mesh()
        .disable_mesh()
        .y_labels(0)
        .label_style(("sans-serif", TEXT))
        .axis_desc_style(("sans-serif", TEXT))
        .x_label_formatter(&|value| tick(*value))
        .x_desc(title)
        .draw()?;
    let (left, _) = chart.plotting_area().get_pixel_range();
    for (row, label) in labels.iter().enumerate() {
        let (_, y) = chart.plotting_area().map_coordinate(&(low, row as f64 + 0.25));
        // At most a letter per byte, with the dots in the middle.
        let label = if self::width(label) > LABELS {
            clip((*label).to_owned(), (LABELS / LETTER) as usize - 4)
        } else {
            (*label).to_owned()
        };
        area.draw(&Text::new(label, (left.start - width as i32 - 5, y), ("sans-serif", TEXT)))?;
    }
    Ok(chart)
}

/// The height of a chart of labelled rows.
fn height(labels: &[&str]) -> u32 {
    labels.len() as u32 * ROW + 60
}

/// The width of a label in pixels, roughly.
fn width(label: &str) -> u32 {
    label.chars().map(|character| if (character as u32) < 0x2e80 { LETTER } else { 2 * LETTER }).sum()
}

/// A number on an axis: 0 and not -0.0, 10 and not 10.0.
fn tick(value: f64) -> String {
    let text = format!("{value:.4}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

fn svg(height: u32, draw: impl FnOnce(&DrawingArea<SVGBackend<'_>, Shift>) -> Drawn) -> Result<String> {
    let mut text = String::new();
    let drawn = {
        let area = SVGBackend::with_string(&mut text, (WIDTH, height)).into_drawing_area();
        area.fill(&WHITE).map_err(Into::into).and_then(|()| draw(&area)).and_then(|()| Ok(area.present()?))
    };
    drawn.map_err(|e| Error::new(ErrorKind::Format, format!("cannot draw a plot: {e}")))?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_on_axes_are_short_and_zero_has_no_sign() {
        let ticks = [-0.0, -1e-17, 10.0, 0.25, -0.1 - 0.2, 1.0].map(tick);
        assert_eq!(ticks, ["0", "0", "10", "0.25", "-0.3", "1"]);
    }
}
