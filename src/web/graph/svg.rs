//! The drawing as text. Every name goes through askama's escaper; states are CSS classes, so that no style is inline.

use std::fmt::Write;

use super::{Graph, Kind, LABEL, Layout, Node, layout};
use crate::web::markup::escape;

/// Advance of a character of the 13 px monospace font of the boxes.
const ADVANCE: f64 = 7.85;

/// Width and height of a node's box.
pub(super) fn size(node: &Node) -> (f64, f64) {
    let text = label(&node.name).chars().count() as f64 * ADVANCE;
    match node.kind {
        Kind::Job => ((text + 32.0).max(72.0), 36.0),
        Kind::Resource => ((text + 24.0).max(56.0), 26.0),
    }
}

fn label(name: &str) -> String {
    if name.chars().count() <= LABEL {
        return name.to_owned();
    }
    name.chars().take(LABEL - 1).chain(['…']).collect()
}

/// The graph as an `<svg>` element.
pub fn draw(graph: &Graph) -> String {
    let layout = layout(graph);
    let mut out = String::with_capacity(512 * graph.nodes.len());
    let (w, h) = (layout.width.ceil(), layout.height.ceil());
    let _ = write!(
        out,
        r#"<svg class="graph" xmlns="http://www.w3.org/2000/svg" width="{w}" height="{h}" viewBox="0 0 {w} {h}" role="group" aria-label="pipeline graph"><g class="edges">"#
    );
    for (edge, route) in graph.edges.iter().zip(&layout.routes) {
        let class = if edge.quiet { "quiet" } else { "" };
        let running = if graph.nodes[edge.to].class.contains("is-running") { " is-running" } else { "" };
        let _ = write!(out, r#"<path class="{class}{running}" data-a="{}" data-b="{}" d=""#, edge.from, edge.to);
        curve(&mut out, route);
        out.push_str(r#""/>"#);
    }
    out.push_str("</g>");
    for at in 0..graph.nodes.len() {
        write_node(&mut out, graph, &layout, at);
    }
    out.push_str("</svg>");
    out
}

fn curve(out: &mut String, route: &[(f64, f64)]) {
    for (i, pair) in route.chunks_exact(2).enumerate() {
        let ((x1, y1), (x2, y2)) = (pair[0], pair[1]);
        let middle = f64::midpoint(x1, x2);
        let _ = write!(out, "{}{x1:.1} {y1:.1}", if i == 0 { 'M' } else { 'L' });
        let _ = write!(out, "C{middle:.1} {y1:.1} {middle:.1} {y2:.1} {x2:.1} {y2:.1}");
    }
}

fn write_node(out: &mut String, graph: &Graph, layout: &Layout, at: usize) {
    let (node, frame) = (&graph.nodes[at], layout.boxes[at]);
    let (x, y, w, h) = (frame.x, frame.y, frame.w, frame.h);
    let radius = if node.kind == Kind::Job { 6.0 } else { h / 2.0 };
    let _ = write!(
        out,
        r#"<a class="node {}" data-n="{at}" href="{}"><title>{}</title><rect x="{x:.1}" y="{y:.1}" width="{w:.1}" height="{h:.1}" rx="{radius}"/>"#,
        escape(&node.class),
        escape(&node.href),
        escape(&node.title),
    );
    let _ = write!(
        out,
        r#"<text x="{:.1}" y="{:.1}" text-anchor="middle">{}</text></a>"#,
        x + w / 2.0,
        y + h / 2.0 + 4.5,
        escape(&label(&node.name))
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped_and_cut() {
        let node = Node {
            kind: Kind::Job,
            name: format!("<script>{}", "x".repeat(60)),
            title: "\"><b>".into(),
            href: "/?a=1&b=\"".into(),
            class: "job".into(),
        };
        let svg = draw(&Graph { nodes: vec![node], edges: vec![] });
        assert!(!svg.contains("<script>") && !svg.contains("<b>"), "{svg}");
        assert!(svg.contains("…</text>"));
    }

    #[test]
    fn an_empty_graph_is_an_empty_drawing() {
        assert!(draw(&Graph::default()).starts_with("<svg"));
    }
}
