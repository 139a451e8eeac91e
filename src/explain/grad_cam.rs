//! Grad-CAM (Selvaraju et al. 2017) averaged over models.

use crate::batch::Tensors;
use crate::class::Class;
use crate::error::Result;
use crate::figure::heat::Heat;
use crate::run::TrainedModel;

/// Maps of the tensors at `rows` for their classes, in logits, as the mean over `models`. They are as fine as the last
/// convolutional layer.
///
/// # Errors
/// [`crate::error::Error::Compute`] where the device is out of memory.
pub fn maps(models: &[TrainedModel], tensors: &Tensors, rows: &[usize], classes: &[Class]) -> Result<Vec<Heat>> {
    let mut means: Vec<Heat> = Vec::new();
    for model in models {
        let maps = model.class_maps(tensors, rows, classes)?;
        if means.is_empty() {
            means = maps.iter().map(|m| Heat { side: m.side, values: vec![0.0; m.values.len()] }).collect();
        }
        means.iter_mut().zip(maps).for_each(|(mean, map)| mean.add(1.0 / models.len() as f32, &map.values));
    }
    Ok(means)
}
