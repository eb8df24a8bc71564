import CProtobufC
import CWire
import Failure

extension Packer {
    func taskOrigin(_ origin: TaskOrigin) throws(Failure) -> UnsafeMutablePointer<Zoetrope__TaskOrigin> {
        let result = try make(zoetrope__task_origin__init)
        result.pointee.task = try text(origin.task, "origin.task")
        result.pointee.numerics = try text(origin.numerics, "origin.numerics", limit: Limits.messageBytes)
        result.pointee.mixed = origin.isMixed ? 1 : 0
        result.pointee.manner = try text(origin.manner, "origin.manner")
        return result
    }

    func previewWatch(job: String) throws(Failure) -> UnsafeMutablePointer<Zoetrope__PreviewWatch> {
        let result = try make(zoetrope__preview_watch__init)
        result.pointee.job = try text(job, "preview_watch.job")
        return result
    }

    func preview(_ preview: Preview) throws(Failure) -> UnsafeMutablePointer<Zoetrope__Preview> {
        try Bounds.check(bytes: preview.jpeg.count, limit: Limits.previewBytes, "preview.jpeg")
        let result = try make(zoetrope__preview__init)
        result.pointee.lease = try lease(preview.lease)
        result.pointee.step = preview.step
        result.pointee.total_steps = preview.totalSteps
        result.pointee.width = preview.width
        result.pointee.height = preview.height
        result.pointee.jpeg = try bytes(preview.jpeg)
        return result
    }
}
