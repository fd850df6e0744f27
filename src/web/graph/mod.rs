//! A pipeline as a drawing, left to right: a graph of jobs and resources, laid out in layers, written as SVG.
//!
//! Pure and deterministic: the same graph gives the same drawing, so that a live update moves nothing that did not
//! change. Four steps, a file each: [`layers`] (longest path, dummy nodes for long edges), [`order`] (crossing
//! reduction by barycentre), [`place`] (coordinates), [`svg`]; [`model`] makes the graph of a pipeline.

mod layers;
mod model;
mod order;
mod place;
mod svg;

pub use model::{Input, JobNode, ResourceNode, graph};
pub use svg::draw;

/// What a node stands for; decides its shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A job: a filled box.
    Job,
    /// A resource: a small box.
    Resource,
}

/// One box of the drawing.
#[derive(Debug, Clone)]
pub struct Node {
    /// Shape.
    pub kind: Kind,
    /// Full name; the box shows at most [`LABEL`] characters of it.
    pub name: String,
    /// What it says to a screen reader and on hovering.
    pub title: String,
    /// Where a click leads.
    pub href: String,
    /// CSS classes for its state.
    pub class: String,
}

/// A line from one node to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edge {
    /// Index of the node on the left.
    pub from: usize,
    /// Index of the node on the right.
    pub to: usize,
    /// Drawn dashed: a new version does not start the job by itself.
    pub quiet: bool,
}

/// Nodes and edges, not yet placed.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    /// The boxes.
    pub nodes: Vec<Node>,
    /// The lines.
    pub edges: Vec<Edge>,
}

/// Characters of a name that a box shows.
const LABEL: usize = 34;

/// Where everything goes.
#[derive(Debug, Clone, PartialEq)]
pub struct Layout {
    /// Width of the drawing.
    pub width: f64,
    /// Height of the drawing.
    pub height: f64,
    /// One box for each node.
    pub boxes: Vec<Frame>,
    /// For each edge the points it runs through, left to right, in pairs (end of one curve, start of the next).
    pub routes: Vec<Vec<(f64, f64)>>,
}

/// A rectangle by its left upper corner.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Frame {
    /// Left.
    pub x: f64,
    /// Top.
    pub y: f64,
    /// Width.
    pub w: f64,
    /// Height.
    pub h: f64,
}

/// Places every node and routes every edge.
pub fn layout(graph: &Graph) -> Layout {
    let sizes: Vec<(f64, f64)> = graph.nodes.iter().map(svg::size).collect();
    let edges: Vec<(usize, usize)> = graph.edges.iter().map(|e| (e.from, e.to)).collect();
    let mut layered = layers::layered(graph.nodes.len(), &edges);
    order::reduce_crossings(&mut layered);
    place::place(&layered, &sizes)
}

/// The columns of a layout alone, nodes in the order given: what the small preview of a pipeline shows.
pub fn columns(n: usize, edges: &[(usize, usize)]) -> Vec<Vec<usize>> {
    let layered = layers::layered(n, edges);
    let real = layered.real;
    let only_real = |layer: Vec<usize>| -> Vec<usize> { layer.into_iter().filter(|&v| v < real).collect() };
    layered.layers.into_iter().map(only_real).filter(|layer| !layer.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_graph(acyclic: bool) -> impl Strategy<Value = Graph> {
        (1usize..28).prop_flat_map(move |n| {
            let names = prop::collection::vec("[a-z-]{1,50}", n);
            let edges = prop::collection::vec((0..n, 0..n, any::<bool>()), 0..n * 2);
            (names, edges).prop_map(move |(names, edges)| Graph {
                nodes: names
                    .into_iter()
                    .enumerate()
                    .map(|(i, name)| Node {
                        kind: if i % 2 == 0 { Kind::Job } else { Kind::Resource },
                        title: name.clone(),
                        name,
                        href: "/".into(),
                        class: String::new(),
                    })
                    .collect(),
                edges: edges
                    .into_iter()
                    .filter(|(a, b, _)| a != b)
                    .map(|(a, b, quiet)| if acyclic { (a.min(b), a.max(b), quiet) } else { (a, b, quiet) })
                    .map(|(from, to, quiet)| Edge { from, to, quiet })
                    .collect(),
            })
        })
    }

    fn overlap(a: &Frame, b: &Frame) -> bool {
        a.x < b.x + b.w && b.x < a.x + a.w && a.y < b.y + b.h && b.y < a.y + a.h
    }

    proptest! {
        #[test]
        fn boxes_do_not_overlap_and_stay_inside(graph in any_graph(false)) {
            let layout = layout(&graph);
            for (i, a) in layout.boxes.iter().enumerate() {
                prop_assert!(a.x >= 0.0 && a.y >= 0.0 && a.x + a.w <= layout.width && a.y + a.h <= layout.height);
                for b in &layout.boxes[i + 1..] {
                    prop_assert!(!overlap(a, b), "{a:?} {b:?}");
                }
            }
        }

        #[test]
        fn edges_run_left_to_right(graph in any_graph(true)) {
            let layout = layout(&graph);
            for (edge, route) in graph.edges.iter().zip(&layout.routes) {
                let (from, to) = (layout.boxes[edge.from], layout.boxes[edge.to]);
                prop_assert!(from.x + from.w < to.x);
                prop_assert_eq!(route.first().map(|p| p.0), Some(from.x + from.w));
                prop_assert_eq!(route.last().map(|p| p.0), Some(to.x));
                prop_assert!(route.windows(2).all(|p| p[0].0 <= p[1].0));
            }
        }

        #[test]
        fn the_same_graph_gives_the_same_drawing(graph in any_graph(false)) {
            prop_assert_eq!(draw(&graph), draw(&graph));
        }
    }
}
