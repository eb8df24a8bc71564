import Diffusion
import Failure
import Model
import Request
import Stage
import Tensor

/// The denoising steps of one job and everything that changes from step to step.
struct DenoiseLoop {
    /// What the steps are made with: digest of the model, name of the arithmetic, identity of the adapters.
    struct Origin: Sendable {
        let model: String
        let numerics: String
        let adapters: String
    }

    let session: DenoisingSession
    let parameters: DenoiseParameters
    /// `[1, F, C, h, w]` float32.
    private(set) var latents: Tensor
    /// The latents after each step of this attempt, where they are to be kept.
    private(set) var history: [Tensor] = []
    private let origin: Origin
    /// Steps that were computed in full, those of earlier attempts included.
    private(set) var computedSteps = 0
    private var sampler: Sampler
    private var generator: TorchGenerator
    private var stepsDone = 0
    private var cache: StepCacheState
    /// The state before the last step that was computed in full: what a step cache keeps comes from there. It is far
    /// too large for a checkpoint, so a run that goes on from this one does that step again.
    private var beforeFullStep: DenoiseCheckpoint?
    private var checkpoints: CheckpointPolicy
    /// Nil where it is not known how latents look.
    private var preview: LatentPreview?

    /// Begins with `initialLatents`, or with noise from the job's seed (`prepare_latents`; both samplers want it at scale 1).
    ///
    /// - Parameters:
    ///   - origin: for checkpoints.
    ///   - preview: what shows the steps to whoever looks.
    init(
        session: DenoisingSession, parameters: DenoiseParameters, sampler: Sampler, size: LatentSize,
        initialLatents: Tensor?, condition: LatentCondition?, origin: Origin,
        preview: LatentPreview? = nil
    ) throws(Failure) {
        self.origin = origin
        self.preview = preview
        checkpoints = CheckpointPolicy(isGrowing: parameters.keepStepLatents)
        self.session = session
        self.parameters = parameters
        self.sampler = sampler
        var generator = TorchGenerator(seed: parameters.seed)
        latents = try LatentCondition.start(
            condition, noise: initialLatents, shape: size.shape, sampler: sampler, generator: &generator)
        self.generator = generator
        cache = try parameters.transformerCache.map(session.stepCache) ?? .off
    }

    /// Takes over the state an earlier attempt saved. Fails with `checkpoint_unusable` when it belongs to other latents, another
    /// model or other adapters, or lacks the steps that are to be kept.
    mutating func restore(_ checkpoint: DenoiseCheckpoint) throws(Failure) {
        guard checkpoint.latents.shape == latents.shape, checkpoint.latents.dtype == .float32,
            checkpoint.completedSteps <= sampler.timesteps.count
        else {
            throw Failure(
                "checkpoint_unusable",
                "it holds latents of \(checkpoint.latents.shape) after step \(checkpoint.completedSteps) and this job "
                    + "has \(latents.shape) and \(sampler.timesteps.count) steps", field: "checkpoint")
        }
        guard checkpoint.model.isEmpty || checkpoint.model == origin.model else {
            throw Failure(
                "checkpoint_unusable",
                "it was made by model \(checkpoint.model.prefix(12)), not "
                    + "\(origin.model.prefix(12))", field: "checkpoint")
        }
        guard checkpoint.adapters == origin.adapters else {
            throw Failure(
                "checkpoint_unusable", "it was made with other adapters, or with other weights of them",
                field: "checkpoint")
        }
        guard !parameters.keepStepLatents || checkpoint.history.count == checkpoint.completedSteps else {
            throw Failure(
                "checkpoint_unusable", "it does not hold the latents of every step", field: "checkpoint")
        }
        history = checkpoint.history
        sampler.restore(previousOriginal: checkpoint.previousOriginal)
        generator = checkpoint.generator
        latents = checkpoint.latents
        stepsDone = checkpoint.completedSteps
        computedSteps = checkpoint.computedSteps
    }

    /// Runs the remaining steps. When the task is cancelled or wanted back, what is done so far is saved first.
    mutating func run(_ task: StageTask) throws(Failure) {
        let total = min(sampler.timesteps.count, parameters.stepsUntil ?? .max)
        task.report(step: stepsDone, of: total)
        checkpoints.begin(at: stepsDone)
        while stepsDone < total {
            if task.mustYield {
                save(task)
                throw task.yielded
            }
            do {
                try advance(task)
            } catch {
                if task.isCancelled { save(task) }
                throw error
            }
            stepsDone += 1
            task.report(step: stepsDone, of: total)
            preview?.show(sampler.predictedOriginal, step: stepsDone, of: total, task)
            if parameters.keepStepLatents { history.append(latents) }
            if stepsDone < total, checkpoints.isDue() { save(task) }
        }
    }

    /// One step: prediction for each prompt, guidance in float32, sampler.
    private mutating func advance(_ task: StageTask) throws(Failure) {
        try task.checkCancelled()
        let before = cache.cache == nil ? nil : state
        let timestep = sampler.timesteps[stepsDone]
        let predictions = try session.predict(
            latents: latents.reshaped(Array(latents.shape.dropFirst())), timestep: timestep, cache: &cache
        ) { (_, _) throws(Failure) in try task.checkCancelled() }
        var output = predictions[0]
        if predictions.count == 2 {
            let scale =
                parameters.useDynamicCFG
                ? Guidance.dynamicScale(
                    parameters.guidanceScale, timestep: timestep, numInferenceSteps: parameters.numInferenceSteps)
                : parameters.guidanceScale
            output = try Guidance.classifierFree(uncond: predictions[0], cond: predictions[1], scale: scale)
        }
        let next = try sampler.step(
            modelOutput: output.reshaped(latents.shape), latents: latents, stepIndex: stepsDone, generator: &generator)
        try TensorExpectation.checkFinite(next, name: "latents after step \(stepsDone + 1)", code: "numeric_fault")
        latents = next
        guard cache.lastStepWasFull else { return }
        computedSteps += 1
        beforeFullStep = before
    }

    /// What a run needs to go on with the next step.
    private var state: DenoiseCheckpoint {
        var state = DenoiseCheckpoint(
            latents: latents, completedSteps: stepsDone, previousOriginal: sampler.predictedOriginal,
            generator: generator, computedSteps: computedSteps)
        state.history = history
        state.model = origin.model
        state.numerics = origin.numerics
        state.adapters = origin.adapters
        return state
    }

    /// What the run is for: the latents, or of a draft the clean latents that its last step foretells.
    var result: Tensor { parameters.stepsUntil == nil ? latents : sampler.predictedOriginal ?? latents }

    /// From where a run can go on, encoded.
    var savedState: Tensor { resumable.encode() }

    private var resumable: DenoiseCheckpoint {
        let isComplete = stepsDone == sampler.timesteps.count || cache.isFull(step: stepsDone) == true
        return isComplete ? state : beforeFullStep ?? state
    }

    private mutating func save(_ task: StageTask) {
        let state = resumable
        guard checkpoints.lastStep < state.completedSteps else { return }
        let start = ContinuousClock.now
        task.saveCheckpoint(step: state.completedSteps, state.encode())
        checkpoints.saved(step: state.completedSteps, cost: start.duration(to: .now) + task.checkpointCost)
    }
}
