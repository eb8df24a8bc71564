import Diffusion
import Failure
import Model
import Request
import Stage
import Tensor

/// The denoising steps of one job and everything that changes from step to step.
struct DenoiseLoop {
    let session: DenoisingSession
    let parameters: DenoiseParameters
    /// `[1, F, C, h, w]` float32.
    private(set) var latents: Tensor
    /// The latents after each step of this attempt, where they are to be kept.
    private(set) var history: [Tensor] = []
    /// Steps that were computed in full, those of earlier attempts included.
    private(set) var computedSteps = 0
    private var sampler: Sampler
    private var generator: TorchGenerator
    private var stepsDone = 0
    private var cache: StepCacheState
    /// The state before the last step that was computed in full: what a step cache keeps comes from there. It is far
    /// too large for a checkpoint, so a run that goes on from this one does that step again.
    private var beforeFullStep: DenoiseCheckpoint?
    private var checkpoints = CheckpointPolicy()

    /// Begins with `initialLatents`, or with noise from the job's seed (`prepare_latents`; both samplers want it at scale 1).
    init(
        session: DenoisingSession, parameters: DenoiseParameters, sampler: Sampler, size: LatentSize,
        initialLatents: Tensor?
    ) throws(Failure) {
        self.session = session
        self.parameters = parameters
        self.sampler = sampler
        var generator = TorchGenerator(seed: parameters.seed)
        latents = initialLatents ?? generator.randn(shape: size.shape)
        self.generator = generator
        cache = try parameters.transformerCache.map(session.stepCache) ?? .off
    }

    /// Takes over the state an earlier attempt saved. Fails with `checkpoint_unusable` when it belongs to other latents.
    mutating func restore(_ checkpoint: DenoiseCheckpoint) throws(Failure) {
        guard checkpoint.latents.shape == latents.shape, checkpoint.latents.dtype == .float32,
            checkpoint.completedSteps <= sampler.timesteps.count
        else {
            throw Failure(
                "checkpoint_unusable",
                "it holds latents of \(checkpoint.latents.shape) after step \(checkpoint.completedSteps) and this job "
                    + "has \(latents.shape) and \(sampler.timesteps.count) steps", field: "checkpoint")
        }
        sampler.restore(previousOriginal: checkpoint.previousOriginal)
        generator = checkpoint.generator
        latents = checkpoint.latents
        stepsDone = checkpoint.completedSteps
        computedSteps = checkpoint.computedSteps
    }

    /// Runs the remaining steps. When the task is cancelled or wanted back, what is done so far is saved first.
    mutating func run(_ task: StageTask) throws(Failure) {
        let total = sampler.timesteps.count
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
            if parameters.keepStepLatents {
                history.append(latents)
            } else if stepsDone < total, checkpoints.isDue {
                save(task)
            }
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
        DenoiseCheckpoint(
            latents: latents, completedSteps: stepsDone, previousOriginal: sampler.predictedOriginal,
            generator: generator, computedSteps: computedSteps)
    }

    private mutating func save(_ task: StageTask) {
        guard !parameters.keepStepLatents else { return }
        let isComplete = stepsDone == sampler.timesteps.count || cache.isFull(step: stepsDone) == true
        let state = isComplete ? state : beforeFullStep ?? state
        guard checkpoints.lastStep < state.completedSteps else { return }
        checkpoints.measure(step: state.completedSteps) {
            task.saveCheckpoint(step: state.completedSteps, state.encode())
        }
    }
}

/// Decides after which steps a checkpoint is worth its cost: at most about 2 % of the time, at the latest every 5 s.
struct CheckpointPolicy {
    private var lastTime = ContinuousClock.now
    private(set) var lastStep = 0
    /// Storing and committing cost the machine a few milliseconds whatever the size.
    private var cost = Duration.milliseconds(2)

    mutating func begin(at step: Int) {
        lastStep = step
        lastTime = .now
    }

    var isDue: Bool { lastTime.duration(to: .now) >= min(cost * 50, .seconds(5)) }

    mutating func measure(step: Int, _ save: () -> Void) {
        let start = ContinuousClock.now
        save()
        lastTime = .now
        lastStep = step
        cost = max(.milliseconds(2), start.duration(to: lastTime))
    }
}
