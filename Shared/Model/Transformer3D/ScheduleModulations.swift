import Tensor

/// One modulated norm at one timestep: vectors `[width]` for video and text tokens (`CogVideoXLayerNormZero`).
struct NormModulation: Sendable {
    let shift: Tensor
    let scale: Tensor
    let gate: Tensor
    let textShift: Tensor
    let textScale: Tensor
    let textGate: Tensor

    /// `row` holds the six vectors in the order of the checkpoint.
    init(row: Tensor, width: Int) {
        let vectors = row.reshaped([6, width])
        func vector(_ index: Int) -> Tensor { vectors.rows(index..<(index + 1)).reshaped([width]) }
        shift = vector(0)
        scale = vector(1)
        gate = vector(2)
        textShift = vector(3)
        textScale = vector(4)
        textGate = vector(5)
    }
}

/// The modulation vectors of every block at every timestep of a schedule, float32.
///
/// 12 · layers · width values a timestep: 310 MB for CogVideoX-5b and 50 steps.
struct ScheduleModulations: Sendable {
    let timesteps: [Int]
    private let blocks: [(Tensor, Tensor)]
    private let output: Tensor
    private let width: Int

    /// `blocks` holds both modulated norms of each block `[timesteps, 6 · width]`; `output` is `[timesteps, 2 · width]`.
    init(timesteps: [Int], blocks: [(Tensor, Tensor)], output: Tensor, width: Int) {
        self.timesteps = timesteps
        self.blocks = blocks
        self.output = output
        self.width = width
    }

    /// The modulation before attention and the one before the feed-forward layer.
    func block(_ index: Int, row: Int) -> (attention: NormModulation, feedForward: NormModulation) {
        (
            NormModulation(row: blocks[index].0.rows(row..<(row + 1)), width: width),
            NormModulation(row: blocks[index].1.rows(row..<(row + 1)), width: width)
        )
    }

    /// Shift and scale of the last norm.
    func final(row: Int) -> (shift: Tensor, scale: Tensor) {
        let vectors = output.rows(row..<(row + 1)).reshaped([2, width])
        return (vectors.rows(0..<1).reshaped([width]), vectors.rows(1..<2).reshaped([width]))
    }
}
