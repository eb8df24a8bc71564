/// A published way to leave out the parts of denoising steps whose result an earlier step nearly had already.
///
/// All of them change the result; without one every step is computed in full. docs/step-caches.md compares them.
package enum StepCache: Sendable, Hashable {
    /// TeaCache (Liu et al. 2024, arXiv 2411.19108): a step adds the block stack's change of an earlier step while the
    /// accumulated, rescaled change of the timestep embedding stays below the threshold. `coefficients` of the rescaling
    /// polynomial, highest power first, belong to the weights.
    case teaCache(threshold: Double, coefficients: [Double])
    /// First-Block Cache (ParaAttention; diffusers' `FirstBlockCacheConfig`): the first block always runs; the others'
    /// change is that of an earlier step while what the first block adds differs by no more than the threshold.
    case firstBlock(threshold: Double)
    /// Pyramid Attention Broadcast (Zhao et al. 2024, arXiv 2408.12588; diffusers' `PyramidAttentionBroadcastConfig`):
    /// in the middle of the schedule attention is computed on every `range`th step only, and used again between.
    case pyramidAttention(range: Int)

    /// The timesteps strictly between which attention is broadcast: those published for CogVideoX.
    package static let broadcastTimesteps = (above: 100, below: 850)

    /// Bytes that are kept at the most, beside what a step without a cache needs.
    ///
    /// `tokens` are the rows of one prompt, text included; `width` and `layers` those of the transformer.
    package func keptBytes(tokens: Int, prompts: Int, width: Int, layers: Int, elementBytes: Int) -> Int {
        let stream = tokens * prompts * width * elementBytes
        switch self {
        case .teaCache: return 2 * stream
        case .firstBlock: return 3 * stream
        case .pyramidAttention: return layers * stream
        }
    }

    /// For every step whether it uses what an earlier one kept; nil where only the step itself can tell.
    ///
    /// - Parameter embeddings: the time embedding of each timestep; asked for by TeaCache alone.
    func plan<Problem: Error>(
        timesteps: [Int], embeddings: () throws(Problem) -> [[Float]]
    ) throws(Problem) -> [Bool]? {
        switch self {
        case .teaCache(let threshold, let coefficients):
            return TeaCache.plan(embeddings: try embeddings(), coefficients: coefficients, threshold: threshold)
        case .firstBlock:
            return nil
        case .pyramidAttention(let range):
            let bounds = Self.broadcastTimesteps
            return timesteps.enumerated().map { step, timestep in
                step % range != 0 && timestep > bounds.above && timestep < bounds.below
            }
        }
    }
}
