import Tensor

/// What a step cache keeps from step to step of one job. Steps are told in their order; one that does not follow the
/// step before, as after a resume, finds nothing kept and is computed in full.
package struct StepCacheState: Sendable {
    /// Nil: every step is computed in full and nothing is kept.
    package let cache: StepCache?
    private let plan: [Bool]?
    private let stepCount: Int
    private var previousStep: Int?

    /// What the last step's block stack (all of it, or all but the first block) added to the residual stream.
    var residual: Tensor?
    /// What the first block added to the residual stream in the last full step.
    var firstChange: Tensor?
    /// Each block's attention.
    var attention: [AttentionReuse] = []

    /// Whether the last step was computed in full.
    package internal(set) var lastStepWasFull = true
    /// How much the first block's change differed from that of the last full step, where it was compared.
    package internal(set) var lastFirstBlockChange: Double?

    init(cache: StepCache?, plan: [Bool]?, stepCount: Int) {
        self.cache = cache
        self.plan = plan
        self.stepCount = stepCount
    }

    /// Keeps nothing and leaves nothing out.
    package static let off = StepCacheState(cache: nil, plan: nil, stepCount: 0)

    /// Whether a step of the schedule is computed in full and needs nothing of the steps before; nil where only the
    /// step itself can tell.
    package func isFull(step: Int) -> Bool? {
        guard cache != nil, step > 0 else { return true }
        return plan.map { !$0[step] }
    }

    /// Whether what a step makes can be of use to the next one.
    func isWanted(after step: Int) -> Bool { step + 1 < stepCount && isFull(step: step + 1) != true }

    /// Forgets what does not come from the step before `step`.
    mutating func begin(step: Int) {
        if step == 0 || previousStep != step - 1 { forget() }
        // Until the step has ended, what is kept belongs to no step.
        previousStep = nil
        lastFirstBlockChange = nil
    }

    mutating func end(step: Int, full: Bool) {
        previousStep = step
        lastStepWasFull = full
        if !isWanted(after: step) { forget() }
    }

    mutating func forget() {
        residual = nil
        firstChange = nil
        attention = []
    }
}
