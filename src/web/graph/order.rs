//! The order within each column: sweeps that put each node at the mean place of its neighbours, the best kept.

use super::layers::Layered;

/// Sweeps to and fro; more does not change drawings a reader would notice.
const SWEEPS: usize = 14;

/// Reorders the columns so that few lines cross.
pub(super) fn reduce_crossings(layered: &mut Layered) {
    let (left, right) = layered.neighbours();
    let mut place = places(layered);
    let mut best = (crossings(layered, &right, &place), layered.layers.clone());
    for sweep in 0..SWEEPS {
        if best.0 == 0 {
            break;
        }
        let columns = layered.layers.len();
        for step in 0..columns {
            let (column, side) = if sweep % 2 == 0 { (step, &left) } else { (columns - 1 - step, &right) };
            sort_column(&mut layered.layers[column], side, &mut place);
        }
        let crossed = crossings(layered, &right, &place);
        if crossed < best.0 {
            best = (crossed, layered.layers.clone());
        }
    }
    layered.layers = best.1;
}

fn places(layered: &Layered) -> Vec<usize> {
    let mut place = vec![0; layered.count()];
    for layer in &layered.layers {
        for (i, &v) in layer.iter().enumerate() {
            place[v] = i;
        }
    }
    place
}

/// Sorts one column by the mean place of each node's neighbours; a node without any keeps its own.
fn sort_column(column: &mut [usize], side: &[Vec<usize>], place: &mut [usize]) {
    let mean = |v: usize| {
        let near = &side[v];
        if near.is_empty() {
            return place[v] as f64;
        }
        near.iter().map(|&u| place[u] as f64).sum::<f64>() / near.len() as f64
    };
    let mut keyed: Vec<(f64, usize)> = column.iter().map(|&v| (mean(v), v)).collect();
    keyed.sort_by(|a, b| a.0.total_cmp(&b.0));
    for (i, (slot, (_, v))) in column.iter_mut().zip(keyed).enumerate() {
        *slot = v;
        place[v] = i;
    }
}

/// How many lines cross, counted by a Fenwick tree over the right-hand places.
fn crossings(layered: &Layered, right: &[Vec<usize>], place: &[usize]) -> usize {
    layered
        .layers
        .windows(2)
        .map(|pair| {
            let mut tree = vec![0usize; pair[1].len() + 1];
            let (mut seen, mut crossed) = (0, 0);
            for &v in &pair[0] {
                let mut targets: Vec<usize> = right[v].iter().map(|&u| place[u]).collect();
                targets.sort_unstable();
                crossed += targets.iter().map(|&t| seen - sum(&tree, t + 1)).sum::<usize>();
                for t in targets {
                    add(&mut tree, t + 1);
                    seen += 1;
                }
            }
            crossed
        })
        .sum()
}

fn sum(tree: &[usize], mut i: usize) -> usize {
    let mut total = 0;
    while i > 0 {
        total += tree[i];
        i &= i - 1;
    }
    total
}

fn add(tree: &mut [usize], mut i: usize) {
    while i < tree.len() {
        tree[i] += 1;
        i += i & i.wrapping_neg();
    }
}

#[cfg(test)]
mod tests {
    use super::super::layers::layered;
    use super::*;

    #[test]
    fn a_cross_is_undone() {
        // 0 → 3, 1 → 2: drawn in index order the lines cross.
        let mut l = layered(4, &[(0, 3), (1, 2)]);
        let (_, right) = l.neighbours();
        assert_eq!(crossings(&l, &right, &places(&l)), 1);
        reduce_crossings(&mut l);
        assert_eq!(crossings(&l, &right, &places(&l)), 0);
    }

    #[test]
    fn crossings_are_counted_as_by_hand() {
        // The complete graph between two and three nodes: 3 choose 2 times 2 choose 2.
        let l = layered(5, &[(0, 2), (0, 3), (0, 4), (1, 2), (1, 3), (1, 4)]);
        let (_, right) = l.neighbours();
        assert_eq!(crossings(&l, &right, &places(&l)), 3);
    }
}
