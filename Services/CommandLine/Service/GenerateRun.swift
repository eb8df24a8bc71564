import Diffusion
import Failure
import Foundation
import Request
import Tensor

/// The life of one `zoetrope generate` once everything is known to be valid.
struct GenerateRun: Sendable {
    let plan: ClusterPlan
    let supervisor: ClusterSupervisor
    let request: GenerationRequest
    let traits: ModelTraits
    let fields: [String: any Sendable]
    let files: OutputFiles
    let latents: Tensor?
    let media: MediaFiles
    let intermediates: String?
    let deadline: TimeSpan?
    let began: ContinuousClock.Instant

    func perform() async throws {
        Console.print(request.isCaptioned == true ? "captioning the clip" : "\"\(Console.plain(request.prompt))\"")
        let cache = request.stepCache.map { ", step cache \($0.rawValue)" } ?? ""
        Console.print(
            "\(traits.name): \(request.width)×\(request.height), \(request.numFrames) frames at "
                + "\(request.framesPerSecond) fps, \(request.numInferenceSteps) \(request.scheduler.rawValue) steps, "
                + "guidance \(request.guidanceScale), seed \(request.seed), \(request.dtype.rawValue)\(cache)")
        try await supervisor.start(timeout: .seconds(120))
        let ready = ContinuousClock.now
        Console.print(
            "\(plan.members.count) processes are up (\(Console.seconds(ready - began))); page: \(plan.server)")
        let client = try GatewayClient(server: plan.server)
        let final = try await runJob(client)
        let finished = ContinuousClock.now
        try await save(final, client)
        report(final, ready: ready, finished: finished)
    }

    private func runJob(_ client: GatewayClient) async throws -> VideoStatus {
        var body = fields
        body.merge(try await media.upload(to: client)) { $1 }
        if let latents { body["init_latents"] = try await client.upload(latents, name: "init_latents") }
        let job = try await client.create(
            JSONSerialization.data(withJSONObject: body), idempotencyKey: UUID().uuidString, deadline: deadline)
        var display = ProgressDisplay(isTerminal: Console.isTerminal) { Console.write($0) }
        var last = job
        for try await status in client.watch(job.id) {
            last = status
            display.show(status)
            if let failure = await supervisor.failure { throw failure }
        }
        if let problem = last.error { throw Failure(problem.code, problem.message) }
        return last
    }

    private func save(_ status: VideoStatus, _ client: GatewayClient) async throws {
        switch request.outputType {
        case .video:
            try OutputFiles.write(try await client.content(status.id, variant: "video"), to: files.main)
            try OutputFiles.write(try await client.content(status.id, variant: "spritesheet"), to: files.contactSheet)
        case .frames:
            let frames = try await client.tensor(status.id, name: "decode.frames")
            try OutputFiles.write(frames, name: "frames", to: files.main)
        case .latent:
            let latents = try await client.tensor(status.id, name: "denoise.latents")
            try OutputFiles.write(latents, name: "latents", to: files.main)
        }
        guard let intermediates else { return }
        let written = try await Intermediates(folder: intermediates).save(status.outputs) { name throws(Failure) in
            try await client.tensor(status.id, name: name)
        }
        Console.print("  \(intermediates)/: \(written.count) tensors")
    }

    private func report(_ status: VideoStatus, ready: ContinuousClock.Instant, finished: ContinuousClock.Instant) {
        let computed = status.stages.reduce(0) { $0 + $1.elapsedMilliseconds }
        let total = ContinuousClock.now - began
        let overhead = Console.milliseconds(total) - computed
        Console.print("  wrote \(files.main)")
        if request.outputType == .video { Console.print("  wrote \(files.contactSheet)") }
        let stages = ProgressDisplay.rows(of: status)
            .map { "\($0.stage) \(ProgressDisplay.duration($0.elapsedMilliseconds))" }
        Console.print("  " + stages.joined(separator: ", "))
        Console.print(
            "  \(Console.seconds(total)) in all: start-up \(Console.seconds(ready - began)), stages "
                + "\(ProgressDisplay.duration(computed)), overhead beyond the stages \(ProgressDisplay.duration(max(0, overhead)))"
        )
    }
}
