//! In which order things start that wait for each other.

/// Layers of `nodes` nodes: each pair `(node, before)` of `after` puts `before` into an earlier
/// layer than `node`. Within a layer nodes keep their order.
///
/// # Errors
///
/// One cycle, each of its nodes after the next one, when there is no such order.
pub fn layers(nodes: usize, after: &[(usize, usize)]) -> Result<Vec<Vec<usize>>, Vec<usize>> {
    // For how many others each node waits, and which nodes wait for it.
    let (mut waits, mut followers) = (vec![0_usize; nodes], vec![Vec::new(); nodes]);
    for &(node, before) in after {
        if let (Some(waits), Some(followers)) = (waits.get_mut(node), followers.get_mut(before)) {
            *waits += 1;
            followers.push(node);
        }
    }
    let mut layers = Vec::new();
    let mut layer: Vec<usize> = (0..nodes).filter(|&n| waits.get(n) == Some(&0)).collect();
    while !layer.is_empty() {
        let mut next = Vec::new();
        for &follower in layer.iter().filter_map(|&node| followers.get(node)).flatten() {
            if let Some(waits) = waits.get_mut(follower) {
                *waits -= 1;
                next.extend((*waits == 0).then_some(follower));
            }
        }
        next.sort_unstable();
        layers.push(std::mem::replace(&mut layer, next));
    }
    match waits.iter().position(|&waits| waits > 0) {
        None => Ok(layers),
        Some(node) => Err(cycle(node, after, |node| waits.get(node) == Some(&0))),
    }
}

/// Follows nodes that have no place, each of which waits for another one, until one comes again.
fn cycle(start: usize, after: &[(usize, usize)], is_placed: impl Fn(usize) -> bool) -> Vec<usize> {
    let (mut path, mut node) = (Vec::new(), start);
    loop {
        if let Some(begin) = path.iter().position(|&seen| seen == node) {
            return path.split_off(begin);
        }
        path.push(node);
        let next = after.iter().find(|&&(waiting, before)| waiting == node && !is_placed(before));
        match next {
            Some(&(_, before)) => node = before,
            None => return path,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn layers_come_in_order_or_a_cycle_is_named() {
        assert_eq!(layers(0, &[]), Ok(vec![]));
        assert_eq!(layers(3, &[]), Ok(vec![vec![0, 1, 2]]));
        assert_eq!(layers(3, &[(0, 2), (2, 1)]), Ok(vec![vec![1], vec![2], vec![0]]));
        assert_eq!(layers(4, &[(3, 0), (3, 1)]), Ok(vec![vec![0, 1, 2], vec![3]]));
        assert_eq!(layers(2, &[(1, 0), (1, 0)]), Ok(vec![vec![0], vec![1]]));
        assert_eq!(layers(1, &[(0, 0)]), Err(vec![0]));
        // The one that waits for the cycle is no part of it.
        assert_eq!(layers(4, &[(0, 1), (1, 2), (2, 3), (3, 1)]), Err(vec![1, 2, 3]));
    }

    proptest! {
        #[test]
        fn each_node_is_in_one_layer_after_all_it_waits_for(
            nodes in 1_usize..12,
            pairs in prop::collection::vec((0_usize..12, 0_usize..12), 0..24),
        ) {
            let pairs: Vec<_> = pairs.iter().map(|&(a, b)| (a % nodes, b % nodes)).collect();
            match layers(nodes, &pairs) {
                Ok(layers) => {
                    let layer = |node| layers.iter().position(|layer| layer.contains(&node));
                    prop_assert_eq!(layers.iter().map(Vec::len).sum::<usize>(), nodes);
                    for &(node, before) in &pairs {
                        prop_assert!(layer(before) < layer(node));
                    }
                }
                Err(cycle) => {
                    prop_assert!(!cycle.is_empty());
                    for (place, &node) in cycle.iter().enumerate() {
                        let next = cycle[(place + 1) % cycle.len()];
                        prop_assert!(pairs.contains(&(node, next)));
                    }
                }
            }
        }
    }
}
