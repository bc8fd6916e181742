//! The plots of the summary, as SVG.

use care_core::{Error, ErrorKind, Result};
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
/// Width of the labels on the left.
const LABELS: u32 = 260;

type Drawn = std::result::Result<(), Box<dyn std::error::Error>>;

/// One bar per task and model.
pub(super) fn scores(summary: &Summary) -> Result<String> {
    let bars: Vec<(String, f64, usize)> = summary
        .tasks()
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
    svg(bars.len() as u32 * ROW + 50, |area| {
        let mut chart = rows(area, bars.len(), low, 1.0, &bars.iter().map(|bar| bar.0.clone()).collect::<Vec<_>>())?;
        chart.draw_series(bars.iter().enumerate().map(|(row, (_, score, model))| {
            let place = row as f64;
            Rectangle::new([(0.0, place + 0.2), (*score, place + 0.8)], MODELS[model % MODELS.len()].filled())
        }))?;
        chart.draw_series(bars.iter().enumerate().map(|(row, (_, score, _))| {
            Text::new(format!("{score:.3}"), (score.max(0.0) + 0.01, row as f64 + 0.25), ("sans-serif", 13))
        }))?;
        Ok(())
    })
}

/// The confidence interval of each difference, with a line at 0.
pub(super) fn intervals(summary: &Summary) -> Result<String> {
    let found: Vec<(String, &Comparison)> =
        summary.compared().map(|(model, comparison)| (format!("{} · {model}", comparison.task), comparison)).collect();
    let reach = found.iter().filter_map(|(_, comparison)| comparison.interval);
    let reach = reach.map(|interval| interval.low.abs().max(interval.high.abs())).fold(0.001, f64::max) * 1.1;
    svg(found.len() as u32 * ROW + 50, |area| {
        let labels: Vec<String> = found.iter().map(|(label, _)| label.clone()).collect();
        let mut chart = rows(area, found.len(), -reach, reach, &labels)?;
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
            .x_label_area_size(30)
            .y_label_area_size(60)
            .build_cartesian_2d(0.0..differences.len() as f64, -reach..reach)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(WHITE)
            .x_desc("queries")
            .y_desc("difference")
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

/// A chart with labelled rows, the first at the top.
fn rows<'a>(
    area: &DrawingArea<SVGBackend<'a>, Shift>,
    count: usize,
    low: f64,
    high: f64,
    labels: &[String],
) -> std::result::Result<Rows<'a>, Box<dyn std::error::Error>> {
    let mut chart = ChartBuilder::on(area)
        .margin(10)
        .x_label_area_size(30)
        .y_label_area_size(LABELS)
        .build_cartesian_2d(low..high, count as f64..0.0)?;
    chart.configure_mesh().disable_mesh().y_labels(0).draw()?;
    let (left, _) = chart.plotting_area().get_pixel_range();
    for (row, label) in labels.iter().enumerate() {
        let (_, y) = chart.plotting_area().map_coordinate(&(low, row as f64 + 0.25));
        let left = left.start - LABELS as i32 + 5;
        area.draw(&Text::new(label.clone(), (left, y), ("sans-serif", 13)))?;
    }
    Ok(chart)
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
