import CProtobufC
import CWire
import Failure

extension Unpacker {
    func assign(_ raw: Zoetrope__Assign) throws(Failure) -> Assign {
        try visit(raw.base)
        var checkpoint: TensorRef?
        if let found = raw.checkpoint { checkpoint = try tensorRef(found.pointee) }
        var earlier: TensorRef?
        if let found = raw.earlier_checkpoint { earlier = try tensorRef(found.pointee) }
        return Assign(
            lease: try lease(required(raw.lease, "assign.lease")), attempt: raw.attempt,
            stage: try text(raw.stage, "assign.stage"), model: try text(raw.model, "assign.model"),
            parameters: try text(raw.parameters, "assign.parameters", limit: Limits.parameterBytes),
            inputs: try list(raw.n_inputs, raw.inputs, "assign.inputs", limit: Limits.namedRefs, namedRef),
            durableOutputs: raw.durable_outputs != 0, checkpoint: checkpoint, checkpointStep: raw.checkpoint_step,
            earlierCheckpoint: earlier, earlierCheckpointStep: raw.earlier_checkpoint_step,
            leaseMilliseconds: raw.lease_milliseconds,
            origins: try list(raw.n_origins, raw.origins, "assign.origins", limit: Limits.originsPerTask, taskOrigin))
    }

    func refuse(_ raw: Zoetrope__Refuse) throws(Failure) -> Refuse {
        try visit(raw.base)
        return Refuse(lease: try lease(required(raw.lease, "refuse.lease")), code: try text(raw.code, "refuse.code"))
    }

    func checkpointReport(_ raw: Zoetrope__CheckpointReport) throws(Failure) -> CheckpointReport {
        try visit(raw.base)
        return CheckpointReport(
            lease: try lease(required(raw.lease, "checkpoint.lease")), step: raw.step,
            ref: try tensorRef(required(raw.ref, "checkpoint.ref")))
    }

    func checkpointCommitted(_ raw: Zoetrope__CheckpointCommitted) throws(Failure) -> Message {
        try visit(raw.base)
        return .checkpointCommitted(lease: try lease(required(raw.lease, "checkpoint.lease")), step: raw.step)
    }

    func complete(_ raw: Zoetrope__Complete) throws(Failure) -> Complete {
        try visit(raw.base)
        return Complete(
            lease: try lease(required(raw.lease, "complete.lease")),
            outputs: try list(raw.n_outputs, raw.outputs, "complete.outputs", limit: Limits.namedRefs, namedRef),
            elapsedMilliseconds: raw.elapsed_milliseconds,
            notes: try texts(
                raw.n_notes, raw.notes, "complete.notes", limit: Limits.notes, textLimit: Limits.messageBytes),
            manner: try text(raw.manner, "complete.manner"))
    }

    func fail(_ raw: Zoetrope__Fail) throws(Failure) -> Fail {
        try visit(raw.base)
        return Fail(
            lease: try lease(required(raw.lease, "fail.lease")), code: try text(raw.code, "fail.code"),
            message: try prose(raw.message, "fail.message"),
            retry: try checked(raw.retry.rawValue, "fail.retry", as: Failure.Retry.self),
            missingInputs: try texts(
                raw.n_missing_inputs, raw.missing_inputs, "fail.missing_inputs", limit: Limits.inputsPerTask,
                textLimit: Limits.nameBytes))
    }

    func revoke(_ raw: Zoetrope__Revoke) throws(Failure) -> Revoke {
        try visit(raw.base)
        return Revoke(
            lease: try lease(required(raw.lease, "revoke.lease")), reason: try text(raw.reason, "revoke.reason"),
            yields: raw.yield != 0)
    }
}
