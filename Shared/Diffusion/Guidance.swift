package import Failure
import Glibc
package import Tensor

/// Classifier-free guidance (arXiv 2207.12598) as the CogVideoX pipelines apply it.
package enum Guidance {
    /// v = v_u + g·(v_c − v_u) in float32; both inputs of one shape, any floating point dtype.
    package static func classifierFree(uncond: Tensor, cond: Tensor, scale: Double) throws(Failure) -> Tensor {
        try requireSameShape(uncond, cond, field: "cond")
        let base = try uncond.floats(field: "uncond")
        let guided = try cond.floats(field: "cond")
        let factor = Float(scale)
        let values = [Float](unsafeUninitializedCapacity: base.count) { buffer, initialized in
            for index in base.indices { buffer[index] = base[index] + factor * (guided[index] - base[index]) }
            initialized = base.count
        }
        return Tensor(values, shape: uncond.shape)
    }

    /// The scale of `use_dynamic_cfg` at a timestep: g = 1 + G·(1 − cos(π·((n − t)/n)⁵))/2.
    ///
    /// t is the timestep (999 … 19) and n the number of steps. The scale therefore jumps between 1 and G + 1 from
    /// step to step, which is what the released pipelines do (reference §6.6).
    package static func dynamicScale(_ scale: Double, timestep: Int, numInferenceSteps count: Int) -> Double {
        let progress = Double(count - timestep) / Double(count)
        return 1 + scale * ((1 - cos(Double.pi * pow(progress, 5))) / 2)
    }
}
