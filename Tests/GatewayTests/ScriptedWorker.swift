import BrokerService
import Bus
import Request
import Runtime
import Tensor
import Wire
import Work

/// One worker of every stage on a real bus: it registers, beats and stores like a real one, and its outputs are the few
/// bytes that a test knows.
actor ScriptedWorker {
    static let video = (0..<5000).map { UInt8(truncatingIfNeeded: $0 / 7) }
    static let thumbnail: [UInt8] = [0xff, 0xd8, 0xff]

    private let client: ControlClient
    private let data: DataClient
    private var state: WorkerState
    private var storeLocations: [Location] = []
    private var tasks: [Task<Void, Never>] = []

    init(loop: BusLoop, endpoint: Endpoint, runDirectory: RunDirectory, modelDigest: String) throws {
        let session = SessionID.random()
        client = try ControlClient(loop: loop, endpoint: endpoint, session: session)
        data = DataClient(loop: loop, session: session, runDirectory: runDirectory)
        let capabilities = StageName.needed(for: .video).map { stage in
            Capability(stage: stage.rawValue, model: stage == .videoMuxer ? "" : modelDigest)
        }
        state = WorkerState(
            hello: Hello(
                worker: "scripted-1", capabilities: capabilities, slots: 1, dataLocations: [], numerics: "test",
                processID: 1))
    }

    func begin() {
        tasks = [
            Task {
                for await event in client.events {
                    switch event {
                    case .connected: await handle(.connected)
                    case .disconnected: await handle(.disconnected)
                    case .received(let envelope): await handle(.received(envelope))
                    }
                }
            },
            Task {
                while !Task.isCancelled {
                    await handle(.tick)
                    try? await Task.sleep(for: .milliseconds(20))
                }
            },
        ]
    }

    func end() async {
        for task in tasks { task.cancel() }
        await client.close()
        await data.close()
    }

    private func handle(_ event: WorkerEvent) async {
        for effect in state.handle(event, now: BootClock.now()) {
            switch effect {
            case .send(let message, let inReplyTo): await client.send(message, inReplyTo: inReplyTo)
            case .brokerEpoch(let epoch): await client.setBrokerEpoch(epoch)
            case .welcomed(let welcome): storeLocations = welcome.storeLocations
            case .start(let assign): tasks.append(Task { await work(on: assign) })
            case .cancel(let lease, _): await handle(.stopped(lease))
            default: break
            }
        }
    }

    private func work(on assign: Assign) async {
        await handle(.progress(assign.lease, step: 1, totalSteps: 2))
        do {
            var outputs: [NamedRef] = []
            for (name, tensor) in Self.outputs(of: assign.lease.task.name) {
                let ref = try await data.store(tensor, at: storeLocations, timeout: .seconds(10))
                outputs.append(NamedRef(name: name, ref: ref))
            }
            await handle(
                .finished(assign.lease, outputs: outputs, elapsedMilliseconds: 5, notes: ["scripted \(assign.stage)"]))
        } catch {
            await handle(.failed(assign.lease, error, missingInputs: []))
        }
    }

    private static func outputs(of task: String) -> [(String, Tensor)] {
        switch task {
        case "encode":
            [
                ("input_ids", Tensor(ids: [1, 2], shape: [1, 2])),
                ("prompt_embeds", Tensor([1, 2], shape: [1, 2, 1])),
                ("negative_prompt_embeds", Tensor([3, 4], shape: [1, 2, 1])),
            ]
        case "denoise": [("latents", Tensor([5], shape: [1, 1, 1, 1, 1]))]
        case "decode": [("frames", Tensor(bytes: [1, 2, 3]))]
        default:
            [
                ("video", Tensor(bytes: video)), ("thumbnail", Tensor(bytes: thumbnail)),
                ("contact_sheet", Tensor(bytes: [0x89])),
            ]
        }
    }
}
