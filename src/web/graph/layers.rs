//! Which column each node stands in: one more than the longest path that leads to it. Edges over several columns
//! get a dummy node in each column between, so that the later steps see only edges between neighbours.

use std::collections::BTreeSet;

/// A graph in columns. Nodes from `real` on are dummies.
#[derive(Debug, Clone)]
pub(super) struct Layered {
    /// How many nodes are not dummies.
    pub real: usize,
    /// The nodes of each column, from the top.
    pub layers: Vec<Vec<usize>>,
    /// Edges between neighbouring columns, left node first.
    pub links: Vec<(usize, usize)>,
    /// For each edge of the graph the nodes it runs through, left to right.
    pub chains: Vec<Vec<usize>>,
}

impl Layered {
    /// How many nodes there are, dummies included.
    pub fn count(&self) -> usize {
        self.layers.iter().map(Vec::len).sum()
    }

    /// Neighbours of each node in the column to its left and to its right.
    pub fn neighbours(&self) -> (Vec<Vec<usize>>, Vec<Vec<usize>>) {
        let (mut left, mut right) = (vec![Vec::new(); self.count()], vec![Vec::new(); self.count()]);
        for &(a, b) in &self.links {
            right[a].push(b);
            left[b].push(a);
        }
        (left, right)
    }
}

/// Puts `n` nodes in columns.
pub(super) fn layered(n: usize, edges: &[(usize, usize)]) -> Layered {
    // An edge that would close a circle is laid out the other way round.
    let position = positions(n, edges);
    let forward: Vec<(usize, usize)> =
        edges.iter().map(|&(a, b)| if position[a] <= position[b] { (a, b) } else { (b, a) }).collect();
    let mut rank = ranks(&position, &forward);
    pull_sources(&mut rank, &forward);
    with_dummies(&rank, &forward)
}

/// A place for each node in an order in which edges point onwards, as far as there is one.
fn positions(n: usize, edges: &[(usize, usize)]) -> Vec<usize> {
    let mut waiting = vec![0usize; n];
    let mut after = vec![Vec::new(); n];
    for &(a, b) in edges.iter().filter(|(a, b)| a != b) {
        waiting[b] += 1;
        after[a].push(b);
    }
    let mut ready: BTreeSet<usize> = (0..n).filter(|&v| waiting[v] == 0).collect();
    let mut left: BTreeSet<usize> = (0..n).collect();
    let mut position = vec![0; n];
    let mut next = 0;
    while let Some(v) = ready.pop_first().or_else(|| left.first().copied()) {
        if !left.remove(&v) {
            continue;
        }
        position[v] = next;
        next += 1;
        for &w in &after[v] {
            waiting[w] = waiting[w].saturating_sub(1);
            if waiting[w] == 0 && left.contains(&w) {
                ready.insert(w);
            }
        }
    }
    position
}

fn ranks(position: &[usize], forward: &[(usize, usize)]) -> Vec<usize> {
    let mut sorted: Vec<(usize, usize)> = forward.iter().copied().filter(|(a, b)| a != b).collect();
    sorted.sort_by_key(|&(a, _)| position[a]);
    let mut rank = vec![0; position.len()];
    for (a, b) in sorted {
        rank[b] = rank[b].max(rank[a] + 1);
    }
    rank
}

/// A node that nothing leads to stands right before the first that needs it, not at the far left.
fn pull_sources(rank: &mut [usize], forward: &[(usize, usize)]) {
    let mut first_use = vec![usize::MAX; rank.len()];
    let mut source = vec![true; rank.len()];
    for &(a, b) in forward.iter().filter(|(a, b)| a != b) {
        first_use[a] = first_use[a].min(rank[b]);
        source[b] = false;
    }
    for v in 0..rank.len() {
        if source[v] && first_use[v] != usize::MAX {
            rank[v] = first_use[v].saturating_sub(1);
        }
    }
}

fn with_dummies(rank: &[usize], forward: &[(usize, usize)]) -> Layered {
    let columns = rank.iter().max().map_or(0, |r| r + 1);
    let mut layers = vec![Vec::new(); columns];
    for (v, &r) in rank.iter().enumerate() {
        layers[r].push(v);
    }
    let mut next = rank.len();
    let mut links = Vec::new();
    let mut chains = Vec::with_capacity(forward.len());
    for &(a, b) in forward {
        let mut chain = vec![a];
        for layer in layers.iter_mut().take(rank[b]).skip(rank[a] + 1) {
            layer.push(next);
            chain.push(next);
            next += 1;
        }
        chain.push(b);
        links.extend(chain.windows(2).map(|w| (w[0], w[1])).filter(|(x, y)| x != y));
        chains.push(chain);
    }
    Layered { real: rank.len(), layers, links, chains }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_takes_a_column_each_and_sources_stand_close() {
        // 0 → 1 → 2 → 3, 4 → 3
        let l = layered(5, &[(0, 1), (1, 2), (2, 3), (4, 3)]);
        assert_eq!(l.layers, vec![vec![0], vec![1], vec![2, 4], vec![3]]);
    }

    #[test]
    fn long_edges_get_dummies_and_circles_end() {
        let l = layered(3, &[(0, 1), (1, 2), (0, 2), (2, 0)]);
        assert_eq!(l.layers.len(), 3);
        assert_eq!(l.chains[2].len(), 3);
        assert_eq!(l.chains[3].first(), Some(&0), "the closing edge is turned round");
    }
}
