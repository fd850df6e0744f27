//! Coordinates: columns as wide as their widest box; heights by moving each column towards its neighbours as far as
//! the order and the gaps allow (isotonic regression, so the move is the best there is for the given order).

use super::layers::Layered;
use super::{Frame, Layout};

const MARGIN: f64 = 24.0;
const COLUMN_GAP: f64 = 52.0;
const ROW_GAP: f64 = 14.0;
/// Space a passing line takes.
const LANE: f64 = 10.0;
const ROUNDS: usize = 10;
/// Lines over several columns should be straight before boxes are centred.
const STRAIGHT: f64 = 6.0;

/// Turns columns and an order into coordinates.
pub(super) fn place(layered: &Layered, sizes: &[(f64, f64)]) -> Layout {
    let height = |v: usize| sizes.get(v).map_or(LANE, |s| s.1);
    let centres = centres(layered, &height);
    let (left, width) = columns(layered, sizes);
    let top = (0..layered.count()).map(|v| centres[v] - height(v) / 2.0).fold(f64::INFINITY, f64::min);
    let shift = MARGIN - if top.is_finite() { top } else { 0.0 };

    let mut boxes = vec![Frame { x: 0.0, y: 0.0, w: 0.0, h: 0.0 }; layered.real];
    let mut span = vec![(0.0, 0.0); layered.count()];
    for (layer, &(x, w)) in layered.layers.iter().zip(&left) {
        for &v in layer {
            span[v] = (x, x + w);
            if let Some(&(bw, bh)) = sizes.get(v) {
                let bx = x + (w - bw) / 2.0;
                boxes[v] = Frame { x: bx, y: centres[v] + shift - bh / 2.0, w: bw, h: bh };
                span[v] = (bx, bx + bw);
            }
        }
    }
    let bottom = (0..layered.count()).map(|v| centres[v] + shift + height(v) / 2.0).fold(0.0, f64::max);
    let routes = layered.chains.iter().map(|chain| route(chain, &span, &centres, shift)).collect();
    Layout { width: width + MARGIN, height: bottom + MARGIN, boxes, routes }
}

/// Left edge and width of each column, and where the last one ends.
fn columns(layered: &Layered, sizes: &[(f64, f64)]) -> (Vec<(f64, f64)>, f64) {
    let mut x = MARGIN;
    let mut all = Vec::new();
    for layer in &layered.layers {
        let w = layer.iter().filter_map(|&v| sizes.get(v)).map(|s| s.0).fold(0.0, f64::max);
        all.push((x, w));
        x += w + COLUMN_GAP;
    }
    (all, if layered.layers.is_empty() { MARGIN } else { x - COLUMN_GAP })
}

/// Each node of the way in pairs: where a curve ends and where the next one starts.
fn route(chain: &[usize], span: &[(f64, f64)], centres: &[f64], shift: f64) -> Vec<(f64, f64)> {
    let last = chain.len() - 1;
    let mut points = Vec::with_capacity(chain.len() * 2);
    for (i, &v) in chain.iter().enumerate() {
        let y = centres[v] + shift;
        if i > 0 {
            points.push((span[v].0, y));
        }
        if i < last {
            points.push((span[v].1, y));
        }
    }
    points
}

fn centres(layered: &Layered, height: &dyn Fn(usize) -> f64) -> Vec<f64> {
    let (left, right) = layered.neighbours();
    let mut y = vec![0.0; layered.count()];
    for layer in &layered.layers {
        let mut top = 0.0;
        for &v in layer {
            y[v] = top + height(v) / 2.0;
            top += height(v) + ROW_GAP;
        }
    }
    let columns = layered.layers.len();
    for round in 0..ROUNDS {
        for step in 0..columns {
            let column = if round % 2 == 0 { step } else { columns - 1 - step };
            let layer = &layered.layers[column];
            let wanted: Vec<(f64, f64)> = layer.iter().map(|&v| wish(v, layered.real, &left, &right, &y)).collect();
            let heights: Vec<f64> = layer.iter().map(|&v| height(v)).collect();
            for (&v, at) in layer.iter().zip(settle(&wanted, &heights)) {
                y[v] = at;
            }
        }
    }
    y
}

/// Where a node would like to be, and how much.
fn wish(v: usize, real: usize, left: &[Vec<usize>], right: &[Vec<usize>], y: &[f64]) -> (f64, f64) {
    let (mut sum, mut weight) = (0.0, 0.0);
    for &u in left[v].iter().chain(&right[v]) {
        let w = if u >= real && v >= real { STRAIGHT } else { 1.0 };
        sum += w * y[u];
        weight += w;
    }
    if weight == 0.0 { (y[v], 0.1) } else { (sum / weight, weight) }
}

/// The places nearest to the wishes that keep order and gaps: pool adjacent violators.
fn settle(wanted: &[(f64, f64)], heights: &[f64]) -> Vec<f64> {
    let mut offset = Vec::with_capacity(heights.len());
    let mut at = 0.0;
    for (i, h) in heights.iter().enumerate() {
        if i > 0 {
            at += (heights[i - 1] + h) / 2.0 + ROW_GAP;
        }
        offset.push(at);
    }
    let mut blocks: Vec<(f64, f64, usize)> = Vec::new();
    for (&(want, weight), off) in wanted.iter().zip(&offset) {
        let mut block = (want - off, weight, 1);
        while let Some(&(mean, w, n)) = blocks.last() {
            if mean <= block.0 {
                break;
            }
            blocks.pop();
            block = ((mean * w + block.0 * block.1) / (w + block.1), w + block.1, n + block.2);
        }
        blocks.push(block);
    }
    let levels = blocks.iter().flat_map(|&(mean, _, n)| std::iter::repeat_n(mean, n));
    levels.zip(offset).map(|(level, off)| level + off).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wishes_are_met_where_they_can_be() {
        let h = [20.0, 20.0, 20.0];
        assert_eq!(settle(&[(0.0, 1.0), (100.0, 1.0), (200.0, 1.0)], &h), [0.0, 100.0, 200.0]);
        // All want the same place: they stack around it.
        assert_eq!(settle(&[(50.0, 1.0), (50.0, 1.0), (50.0, 1.0)], &h), [16.0, 50.0, 84.0]);
    }
}
