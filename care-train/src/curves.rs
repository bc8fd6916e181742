//! A plot of a run: the loss and the dev score of each stage.

use std::path::Path;

use care_core::files::write_atomic;
use care_core::{Error, Result};
use plotters::prelude::*;

use crate::log::Line;
use crate::report::{EvaluationReport, StepReport};

const WIDTH: u32 = 860;
const PANEL: u32 = 300;
/// Points of a curve; more than twice the width show nothing more.
const MOST: usize = 2 * WIDTH as usize;
/// Steps on either side of a point that its moving average includes.
const SMOOTHING: usize = 10;

type Point = (f64, f64);

/// Plots the log of a run as an SVG.
///
/// # Errors
/// Returns an error if the file cannot be written.
pub(crate) fn draw_curves(lines: &[Line], path: &Path) -> Result<()> {
    let steps: Vec<&StepReport> = lines.iter().filter_map(step).collect();
    if steps.is_empty() {
        return Ok(());
    }
    let mut svg = String::new();
    let scores: Vec<&EvaluationReport> = lines.iter().filter_map(evaluation).collect();
    draw(&panels(&steps, &scores), &mut svg)
        .map_err(|e| Error::format(path, format!("cannot draw the curves: {e}")))?;
    write_atomic(path, svg)
}

fn step(line: &Line) -> Option<&StepReport> {
    match line {
        Line::Step(report) => Some(report),
        Line::Evaluation(_) => None,
    }
}

fn evaluation(line: &Line) -> Option<&EvaluationReport> {
    match line {
        Line::Evaluation(report) => Some(report),
        Line::Step(_) => None,
    }
}

/// A title, and curves over the steps of a stage.
struct Panel {
    title: String,
    last: f64,
    curves: Vec<(Vec<Point>, RGBAColor)>,
}

fn panels(steps: &[&StepReport], scores: &[&EvaluationReport]) -> Vec<Panel> {
    let mut stages: Vec<(usize, &str)> = steps.iter().map(|report| (report.stage, report.kind.as_str())).collect();
    stages.dedup();
    let mut panels = Vec::new();
    for (stage, kind) in stages {
        let of_stage = steps.iter().filter(|report| report.stage == stage);
        let losses: Vec<Point> = of_stage.map(|report| (report.step as f64, report.loss)).collect();
        let of_stage = || scores.iter().filter(|report| report.stage == stage);
        let label = of_stage().next().map_or_else(String::new, |report| report.label());
        let scores: Vec<Point> = of_stage().filter_map(|report| Some((report.step as f64, report.score?))).collect();
        let last = losses.last().map_or(1.0, |point| point.0);
        let title = |what: &str| format!("stage {stage} ({kind}): {what}");
        let smoothed = (thin(&smooth(&losses)), BLUE.to_rgba());
        panels.push(Panel { title: title("loss"), last, curves: vec![(thin(&losses), BLUE.mix(0.25)), smoothed] });
        if !scores.is_empty() {
            panels.push(Panel { title: title(&label), last, curves: vec![(scores, RED.to_rgba())] });
        }
    }
    panels
}

fn draw(panels: &[Panel], svg: &mut String) -> std::result::Result<(), Box<dyn std::error::Error>> {
    let root = SVGBackend::with_string(svg, (WIDTH, PANEL * panels.len() as u32)).into_drawing_area();
    root.fill(&WHITE)?;
    for (panel, area) in panels.iter().zip(root.split_evenly((panels.len(), 1))) {
        draw_panel(panel, &area)?;
    }
    root.present()?;
    Ok(())
}

/// The moving average of the points.
fn smooth(points: &[Point]) -> Vec<Point> {
    (0..points.len())
        .map(|at| {
            let reach = SMOOTHING.min(at).min(points.len() - 1 - at);
            let window = &points[at - reach..=at + reach];
            (points[at].0, window.iter().map(|point| point.1).sum::<f64>() / window.len() as f64)
        })
        .collect()
}

/// At most [`MOST`] points: the lowest and the highest of each group of neighbours.
fn thin(points: &[Point]) -> Vec<Point> {
    if points.len() <= MOST {
        return points.to_vec();
    }
    let extremes = |group: &[Point]| {
        let by_value = |a: &&Point, b: &&Point| a.1.total_cmp(&b.1);
        let mut both: Vec<Point> =
            group.iter().min_by(by_value).into_iter().chain(group.iter().max_by(by_value)).copied().collect();
        both.sort_by(|a, b| a.0.total_cmp(&b.0));
        both
    };
    points.chunks(points.len().div_ceil(MOST / 2)).flat_map(extremes).collect()
}

fn draw_panel<D: DrawingBackend>(
    panel: &Panel,
    area: &DrawingArea<D, plotters::coord::Shift>,
) -> std::result::Result<(), Box<dyn std::error::Error>>
where
    D::ErrorType: 'static,
{
    let values = || panel.curves.iter().flat_map(|(points, _)| points.iter().map(|point| point.1));
    let (low, high) = (values().fold(f64::INFINITY, f64::min), values().fold(f64::NEG_INFINITY, f64::max));
    let room = ((high - low) * 0.08).max(1e-3);
    let mut chart = ChartBuilder::on(area)
        .caption(&panel.title, ("sans-serif", 16))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..panel.last, low - room..high + room)?;
    chart.configure_mesh().light_line_style(TRANSPARENT).x_desc("step").draw()?;
    for (points, color) in &panel.curves {
        chart.draw_series(LineSeries::new(points.iter().copied(), color.stroke_width(2)))?;
        if points.len() < 60 {
            chart.draw_series(points.iter().map(|&point| Circle::new(point, 3, color.filled())))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::stage::StageKind;

    #[test]
    fn every_stage_has_a_curve_and_an_empty_log_none() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("curves.svg");
        draw_curves(&[], &path).expect("nothing to draw");
        assert!(!path.exists());
        let step = |stage, step| {
            Line::Step(StepReport {
                stage,
                kind: if stage == 1 { StageKind::QueryAlignment } else { StageKind::JointFinetuning },
                step,
                total_steps: 30,
                loss: 3.0 / step as f64,
                losses: BTreeMap::new(),
                learning_rate: 1e-4,
                gradient_norm: 1.0,
                tokens: 10,
                seconds: 1.0,
                time: 1.8e9,
            })
        };
        let score = Line::Evaluation(EvaluationReport {
            stage: 2,
            step: 10,
            split: "dev".into(),
            measure: "ndcg@10".into(),
            score: Some(0.4),
            scores: BTreeMap::new(),
            undefined: BTreeMap::new(),
            best: true,
            seconds: 1.0,
            time: 1.8e9,
        });
        let lines: Vec<Line> = (1..=2).flat_map(|stage| (1..=30).map(move |n| step(stage, n))).chain([score]).collect();
        draw_curves(&lines, &path).expect("drawn");
        let svg = std::fs::read_to_string(&path).expect("written");
        for title in [
            "stage 1 (query-alignment): loss",
            "stage 2 (joint-finetuning): loss",
            "stage 2 (joint-finetuning): dev ndcg@10",
        ] {
            assert!(svg.contains(title), "{title}");
        }
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
        assert!(svg.matches("<polyline").count() >= 4, "a raw and a smoothed curve each");
        assert_eq!(smooth(&[(1.0, 1.0), (2.0, 4.0), (3.0, 1.0)])[1], (2.0, 2.0));
        let mut many: Vec<Point> = (0..100_000).map(|step| (f64::from(step), 0.0)).collect();
        (many[50_000].1, many[70_000].1) = (9.0, -9.0);
        let thinned = thin(&many);
        assert!(thinned.len() <= MOST && thinned.is_sorted_by(|a, b| a.0 <= b.0), "{}", thinned.len());
        assert!(thinned.contains(&(50_000.0, 9.0)) && thinned.contains(&(70_000.0, -9.0)), "no peak is lost");
    }
}
