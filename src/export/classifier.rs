//! Fitted classical classifiers as ONNX graphs: gaps are filled and features standardised in double precision, then
//! the classifier follows. SVM and forest are the operators of `ai.onnx.ml`, which compute in single precision.

use crate::classical::{Arrays, CLASS_WEIGHTS};
use crate::models::onnx::{self, DOUBLE, FLOAT, Graph, floats, int, ints, string, strings};
use crate::run::FittedModel;

/// Logarithm of the probability of a class without training cells.
const NEVER: f64 = -1e30;

/// The bytes of the ONNX file of a fitted classifier; `features` is how many a cell has.
///
/// # Errors
/// What is wrong with the classifier.
pub fn encode(fitted: &FittedModel, features: usize, title: &str, config: String) -> Result<Vec<u8>, String> {
    let (arrays, count) = (fitted.classifier.arrays(), fitted.record.classes.len());
    let mut graph = Graph::empty();
    let x = standardised(&mut graph, fitted);
    let mut p = match fitted.record.model.as_str() {
        _ if arrays.has("always") => always(&mut graph, &x, &arrays, fitted.scale.width(), count)?,
        "knn" => neighbours(&mut graph, &x, &arrays, count)?,
        "lda" => discriminants(&mut graph, &x, &arrays, count)?,
        "bayes" => posterior(&mut graph, &x, &arrays, count)?,
        "svm" => machine(&mut graph, &x, &arrays, count)?,
        "forest" => forest(&mut graph, &x, &arrays, count)?,
        other => return Err(format!("the classifier {other}, which has no graph")),
    };
    if arrays.has(CLASS_WEIGHTS) {
        let weights = graph.doubles("class_weights", &[1, count], arrays.get(CLASS_WEIGHTS)?);
        let double = graph.node("Cast", &[&p], vec![int("to", DOUBLE.into())]);
        let weighted = graph.node("Mul", &[&double, &weights], Vec::new());
        let axis = graph.whole("class_axis", &[1]);
        let sum = graph.node("ReduceSum", &[&weighted, &axis], vec![int("keepdims", 1)]);
        p = graph.node("Div", &[&weighted, &sum], Vec::new());
    }
    let p = graph.node("Cast", &[&p], vec![int("to", FLOAT.into())]);
    Ok(onnx::encode_classifier(graph, p, (features, count), title, &[("config", config)]))
}

/// `features` f32 `[n, features]` → standardised `[n, width]`, f64.
fn standardised(graph: &mut Graph, fitted: &FittedModel) -> String {
    let columns: Vec<usize> = fitted.scale.columns().collect();
    let columns = graph.whole("columns", &columns);
    let [medians, means, deviations] = fitted.scale.statistics();
    let x = graph.node("Gather", &["features", &columns], vec![int("axis", 1)]);
    let x = graph.node("Cast", &[&x], vec![int("to", DOUBLE.into())]);
    let missing = graph.node("IsNaN", &[&x], Vec::new());
    let mut row = |name: &str, values: &[f64]| graph.doubles(name, &[1, values.len()], values);
    let (medians, means, deviations) = (row("medians", &medians), row("means", &means), row("deviations", &deviations));
    let x = graph.node("Where", &[&missing, &medians, &x], Vec::new());
    let x = graph.node("Sub", &[&x, &means], Vec::new());
    graph.node("Div", &[&x, &deviations], Vec::new())
}

/// `[rows, width]` as `[width, count]`, each row in the column of its class; zeros elsewhere.
fn by_class(rows: &[Vec<f64>], classes: &[usize], count: usize) -> (Vec<usize>, Vec<f64>) {
    let width = rows.first().map_or(0, Vec::len);
    let mut values = vec![0.0; width * count];
    for (row, class) in rows.iter().zip(classes) {
        row.iter().enumerate().for_each(|(k, v)| values[k * count + class] = *v);
    }
    (vec![width, count], values)
}

/// One value per class; `NEVER` for others.
fn constants(values: &[f64], classes: &[usize], count: usize) -> Vec<f64> {
    let mut all = vec![NEVER; count];
    values.iter().zip(classes).for_each(|(value, class)| all[*class] = *value);
    all
}

fn always(graph: &mut Graph, x: &str, arrays: &Arrays, width: usize, count: usize) -> Result<String, String> {
    let class = arrays.get_numbers("always", count)?[0];
    let zeros = graph.doubles("zeros", &[width, count], &vec![0.0; width * count]);
    let one: Vec<f64> = (0..count).map(|c| f64::from(u8::from(c == class))).collect();
    let one = graph.doubles("always", &[1, count], &one);
    let zero = graph.node("MatMul", &[x, &zeros], Vec::new());
    Ok(graph.node("Add", &[&zero, &one], Vec::new()))
}

fn discriminants(graph: &mut Graph, x: &str, arrays: &Arrays, count: usize) -> Result<String, String> {
    let classes = arrays.get_numbers("classes", count)?;
    let rows: Vec<Vec<f64>> = arrays.get_rows("weights")?.into_iter().map(<[f64]>::to_vec).collect();
    let (shape, weights) = by_class(&rows, &classes, count);
    let weights = graph.doubles("weights", &shape, &weights);
    let constant = graph.doubles("constants", &[1, count], &constants(arrays.get("constants")?, &classes, count));
    let x = graph.node("MatMul", &[x, &weights], Vec::new());
    let x = graph.node("Add", &[&x, &constant], Vec::new());
    Ok(graph.node("Softmax", &[&x], vec![int("axis", 1)]))
}

/// The logarithm of a normal density is quadratic in the feature: x²a + xb + c.
fn posterior(graph: &mut Graph, x: &str, arrays: &Arrays, count: usize) -> Result<String, String> {
    let classes = arrays.get_numbers("classes", count)?;
    let (means, variances) = (arrays.get_rows("means")?, arrays.get_rows("variances")?);
    let pairs = |of: &dyn Fn(f64, f64) -> f64| -> Vec<Vec<f64>> {
        means.iter().zip(&variances).map(|(m, v)| m.iter().zip(*v).map(|(m, v)| of(*m, *v)).collect()).collect()
    };
    let (shape, squares) = by_class(&pairs(&|_, variance| -0.5 / variance), &classes, count);
    let (_, linear) = by_class(&pairs(&|mean, variance| mean / variance), &classes, count);
    let density =
        |mean: f64, variance: f64| -0.5 * (mean * mean / variance + (2.0 * std::f64::consts::PI * variance).ln());
    let rest = pairs(&density).into_iter().map(|row| row.iter().sum::<f64>());
    let rest: Vec<f64> = rest.zip(arrays.get("log_priors")?).map(|(rest, prior)| rest + prior).collect();
    let (squares, linear) = (graph.doubles("squares", &shape, &squares), graph.doubles("linear", &shape, &linear));
    let rest = graph.doubles("constants", &[1, count], &constants(&rest, &classes, count));
    let square = graph.node("Mul", &[x, x], Vec::new());
    let square = graph.node("MatMul", &[&square, &squares], Vec::new());
    let x = graph.node("MatMul", &[x, &linear], Vec::new());
    let x = graph.node("Add", &[&x, &square], Vec::new());
    let x = graph.node("Add", &[&x, &rest], Vec::new());
    Ok(graph.node("Softmax", &[&x], vec![int("axis", 1)]))
}

/// The shares of the nearest cells, by |a|² - 2ab: the length of x is the same for all.
fn neighbours(graph: &mut Graph, x: &str, arrays: &Arrays, count: usize) -> Result<String, String> {
    let cells = arrays.get_rows("cells")?;
    let (n, width) = (cells.len(), cells.first().map_or(0, |cell| cell.len()));
    let transposed: Vec<f64> = (0..width).flat_map(|k| cells.iter().map(move |cell| -2.0 * cell[k])).collect();
    let squares: Vec<f64> = cells.iter().map(|cell| cell.iter().map(|v| v * v).sum()).collect();
    let classes = arrays.get_numbers("classes", count)?;
    let votes: Vec<f64> =
        classes.iter().flat_map(|class| (0..count).map(move |c| f64::from(u8::from(c == *class)))).collect();
    let cells = graph.doubles("cells", &[width, n], &transposed);
    let squares = graph.doubles("squares", &[1, n], &squares);
    let votes = graph.doubles("votes", &[n, count], &votes);
    let k = graph.whole("k", &arrays.get_numbers("k", n + 1)?);
    let x = graph.node("MatMul", &[x, &cells], Vec::new());
    let x = graph.node("Add", &[&x, &squares], Vec::new());
    let nearest = graph.last_of("TopK", &[&x, &k], 2, vec![int("axis", 1), int("largest", 0)]);
    let votes = graph.node("Gather", &[&votes, &nearest], vec![int("axis", 0)]);
    Ok(graph.node("ReduceMean", &[&votes], vec![ints("axes", &[1]), int("keepdims", 0)]))
}

/// LIBSVM's machine as the operator of ONNX, which couples the pairs in the same way. Its scores are of the classes
/// that occur.
fn machine(graph: &mut Graph, x: &str, arrays: &Arrays, count: usize) -> Result<String, String> {
    let classes = arrays.get_numbers("classes", count)?;
    let x = graph.node("Cast", &[x], vec![int("to", FLOAT.into())]);
    let all = |name: &str| arrays.get(name).map(<[f64]>::to_vec);
    let gamma = all("gamma")?[0];
    let attributes = vec![
        ints("classlabels_ints", &(0..classes.len()).collect::<Vec<_>>()),
        floats("coefficients", all("coefficients")?),
        floats("kernel_params", [gamma, 0.0, 0.0]),
        string("kernel_type", "RBF"),
        string("post_transform", "NONE"),
        floats("prob_a", all("sigmoid_a")?),
        floats("prob_b", all("sigmoid_b")?),
        floats("rho", all("rho")?.into_iter().map(|rho| -rho)),
        floats("support_vectors", all("vectors")?),
        ints("vectors_per_class", &arrays.get_numbers("vectors_of_class", usize::MAX)?),
    ];
    let scores = graph.classifier("SVMClassifier", &x, attributes);
    Ok(spread(graph, &scores, &classes, count))
}

/// `[n, classes that occur]` → `[n, count]`, scaled to a sum of 1.
fn spread(graph: &mut Graph, scores: &str, classes: &[usize], count: usize) -> String {
    let mut places = vec![0.0; classes.len() * count];
    classes.iter().enumerate().for_each(|(i, class)| places[i * count + class] = 1.0);
    let places = graph.doubles("places", &[classes.len(), count], &places);
    let scores = graph.node("Cast", &[scores], vec![int("to", DOUBLE.into())]);
    let axis = graph.whole("score_axis", &[1]);
    let sum = graph.node("ReduceSum", &[&scores, &axis], vec![int("keepdims", 1)]);
    let scores = graph.node("Div", &[&scores, &sum], Vec::new());
    graph.node("MatMul", &[&scores, &places], Vec::new())
}

fn forest(graph: &mut Graph, x: &str, arrays: &Arrays, count: usize) -> Result<String, String> {
    let thresholds = arrays.get("thresholds")?;
    let n = thresholds.len();
    let features = arrays.get_numbers("features", usize::MAX)?;
    let (firsts, seconds) = (arrays.get_numbers("first_children", n)?, arrays.get_numbers("second_children", n)?);
    let (classes, roots) = (arrays.get_numbers("classes", count)?, arrays.get_numbers("roots", n)?);
    // Nodes are numbered within their tree, and a tree goes up to the next one's root.
    let tree_of: Vec<usize> = (0..n).map(|i| roots.partition_point(|root| *root <= i) - 1).collect();
    let own = |i: usize| i - roots[tree_of[i]];
    let is_leaf = |i: usize| firsts[i] == i;
    let child = |children: &[usize], i: usize| if is_leaf(i) { 0 } else { children[i] - roots[tree_of[i]] };
    let leaves: Vec<usize> = (0..n).filter(|i| is_leaf(*i)).collect();
    let of = |value: &dyn Fn(usize) -> usize| -> Vec<usize> { (0..n).map(value).collect() };
    let of_leaves = |value: &dyn Fn(usize) -> usize| -> Vec<usize> { leaves.iter().map(|i| value(*i)).collect() };
    let attributes = vec![
        ints("nodes_treeids", &tree_of),
        ints("nodes_nodeids", &of(&own)),
        ints("nodes_featureids", &of(&|i| if is_leaf(i) { 0 } else { features[i] })),
        floats("nodes_values", (0..n).map(|i| if is_leaf(i) { 0.0 } else { thresholds[i] })),
        strings("nodes_modes", (0..n).map(|i| if is_leaf(i) { "LEAF" } else { "BRANCH_LEQ" })),
        ints("nodes_truenodeids", &of(&|i| child(&firsts, i))),
        ints("nodes_falsenodeids", &of(&|i| child(&seconds, i))),
        ints("class_treeids", &of_leaves(&|i| tree_of[i])),
        ints("class_nodeids", &of_leaves(&own)),
        ints("class_ids", &of_leaves(&|i| classes[i])),
        floats("class_weights", leaves.iter().map(|_| 1.0 / roots.len() as f64)),
        ints("classlabels_int64s", &(0..count).collect::<Vec<_>>()),
        string("post_transform", "NONE"),
    ];
    let x = graph.node("Cast", &[x], vec![int("to", FLOAT.into())]);
    Ok(graph.classifier("TreeEnsembleClassifier", &x, attributes))
}
