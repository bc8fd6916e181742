//! The histograms of a report, as SVG.

use care_core::{Error, ErrorKind, Result};
use plotters::prelude::*;

use super::report::Report;
use super::statistics::Distribution;

const SIZE: (u32, u32) = (860, 420);
const POSITIVES: RGBColor = RGBColor(46, 125, 80);
const NEGATIVES: RGBColor = RGBColor(190, 60, 50);
const MARGINS: RGBColor = RGBColor(45, 105, 165);

type Drawn = std::result::Result<(), Box<dyn std::error::Error>>;
type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

/// Scores of positives and negatives in one chart, margins in another below.
pub(super) fn histograms(report: &Report) -> Result<String> {
    let mut text = String::new();
    let drawn = {
        let area = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
        draw(&area, report).and_then(|()| Ok(area.present()?))
    };
    drawn.map_err(|e| Error::new(ErrorKind::Format, format!("cannot draw a plot: {e}")))?;
    Ok(text)
}

fn draw(area: &Area<'_>, report: &Report) -> Drawn {
    area.fill(&WHITE)?;
    let (scores, margins) = area.split_vertically(SIZE.1 / 2);
    let of = [("positives", &report.positive_scores, POSITIVES), ("negatives", &report.negative_scores, NEGATIVES)];
    chart(&scores, &format!("score by {}", report.scored_by), &of)?;
    chart(&margins, "margin between the positive and a negative", &[("margins", &report.margins, MARGINS)])
}

fn chart(area: &Area<'_>, title: &str, of: &[(&str, &Distribution, RGBColor)]) -> Drawn {
    let low = of.iter().map(|(_, of, _)| of.min).fold(f64::INFINITY, f64::min);
    let high = of.iter().map(|(_, of, _)| of.max).fold(f64::NEG_INFINITY, f64::max);
    // A range of one value would have no width.
    let high = if high > low { high } else { low + 1e-6 };
    let share = |of: &Distribution, count: usize| 100.0 * count as f64 / of.count.max(1) as f64;
    let most = of.iter().flat_map(|(_, of, _)| of.histogram.iter().map(|&count| share(of, count))).fold(1.0, f64::max);
    let mut chart = ChartBuilder::on(area)
        .margin(10)
        .x_label_area_size(35)
        .y_label_area_size(55)
        .build_cartesian_2d(low..high, 0.0..most * 1.05)?;
    chart.configure_mesh().disable_x_mesh().light_line_style(WHITE).x_desc(title).y_desc("%").draw()?;
    for &(name, of, color) in of {
        let bars = of.histogram.iter().enumerate().map(|(part, &count)| {
            let (from, to) = of.bin(part);
            Rectangle::new([(from, 0.0), (to, share(of, count))], color.mix(0.5).filled())
        });
        chart
            .draw_series(bars)?
            .label(name)
            .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 12, y + 5)], color.mix(0.5).filled()));
    }
    chart.configure_series_labels().background_style(WHITE).border_style(BLACK.mix(0.3)).draw()?;
    Ok(())
}
