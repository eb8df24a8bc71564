import CProtobufC
import CWire
import Failure

extension Packer {
    func assign(_ assign: Assign) throws(Failure) -> UnsafeMutablePointer<Zoetrope__Assign> {
        let result = try make(zoetrope__assign__init)
        result.pointee.lease = try lease(assign.lease)
        result.pointee.attempt = assign.attempt
        result.pointee.stage = try text(assign.stage, "assign.stage")
        result.pointee.model = try text(assign.model, "assign.model")
        result.pointee.parameters = try text(assign.parameters, "assign.parameters", limit: Limits.parameterBytes)
        result.pointee.n_inputs = assign.inputs.count
        result.pointee.inputs = try list(assign.inputs, "assign.inputs", limit: Limits.namedRefs, namedRef)
        result.pointee.durable_outputs = assign.durableOutputs ? 1 : 0
        if let checkpoint = assign.checkpoint { result.pointee.checkpoint = try tensorRef(checkpoint) }
        result.pointee.checkpoint_step = assign.checkpointStep
        result.pointee.lease_milliseconds = assign.leaseMilliseconds
        if let earlier = assign.earlierCheckpoint { result.pointee.earlier_checkpoint = try tensorRef(earlier) }
        result.pointee.earlier_checkpoint_step = assign.earlierCheckpointStep
        result.pointee.n_origins = assign.origins.count
        result.pointee.origins = try list(assign.origins, "assign.origins", limit: Limits.originsPerTask, taskOrigin)
        return result
    }

    func refuse(_ refuse: Refuse) throws(Failure) -> UnsafeMutablePointer<Zoetrope__Refuse> {
        let result = try make(zoetrope__refuse__init)
        result.pointee.lease = try lease(refuse.lease)
        result.pointee.code = try text(refuse.code, "refuse.code")
        return result
    }

    func checkpointReport(
        _ report: CheckpointReport
    ) throws(Failure) -> UnsafeMutablePointer<Zoetrope__CheckpointReport> {
        let result = try make(zoetrope__checkpoint_report__init)
        result.pointee.lease = try lease(report.lease)
        result.pointee.step = report.step
        result.pointee.ref = try tensorRef(report.ref)
        return result
    }

    func checkpointCommitted(
        _ committed: Lease, step: UInt32
    ) throws(Failure) -> UnsafeMutablePointer<Zoetrope__CheckpointCommitted> {
        let result = try make(zoetrope__checkpoint_committed__init)
        result.pointee.lease = try lease(committed)
        result.pointee.step = step
        return result
    }

    func complete(_ complete: Complete) throws(Failure) -> UnsafeMutablePointer<Zoetrope__Complete> {
        let result = try make(zoetrope__complete__init)
        result.pointee.lease = try lease(complete.lease)
        result.pointee.n_outputs = complete.outputs.count
        result.pointee.outputs = try list(complete.outputs, "complete.outputs", limit: Limits.namedRefs, namedRef)
        result.pointee.elapsed_milliseconds = complete.elapsedMilliseconds
        (result.pointee.n_notes, result.pointee.notes) = try notes(complete.notes)
        result.pointee.manner = try text(complete.manner, "complete.manner")
        return result
    }

    func fail(_ fail: Fail) throws(Failure) -> UnsafeMutablePointer<Zoetrope__Fail> {
        let result = try make(zoetrope__fail__init)
        result.pointee.lease = try lease(fail.lease)
        result.pointee.code = try text(fail.code, "fail.code")
        result.pointee.message = try prose(fail.message)
        result.pointee.retry = Zoetrope__Retry(rawValue: .init(fail.retry.rawValue))
        result.pointee.n_missing_inputs = fail.missingInputs.count
        result.pointee.missing_inputs = try array(
            fail.missingInputs, "fail.missing_inputs", limit: Limits.inputsPerTask
        ) { (name) throws(Failure) in try text(name, "fail.missing_inputs") }
        return result
    }

    func revoke(_ revoke: Revoke) throws(Failure) -> UnsafeMutablePointer<Zoetrope__Revoke> {
        let result = try make(zoetrope__revoke__init)
        result.pointee.lease = try lease(revoke.lease)
        result.pointee.reason = try text(revoke.reason, "revoke.reason")
        result.pointee.yield = revoke.yields ? 1 : 0
        return result
    }
}
