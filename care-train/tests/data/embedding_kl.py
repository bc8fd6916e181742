"""Reference values of the loss `embedding-kl` by PyTorch's kl_div, with gradients (float64).
Matrices are those of care_loss.py: student 0 [4, 8] and teacher 2 [4, 8], L2-normalised at full width, the teacher detached.
usage: embedding_kl.py      (writes embedding_kl.json)"""
import json
import os

import torch
import torch.nn.functional as F

torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)


def matrix(case, rows, width):
    h, out = 12345 + case * 1000003, []
    for _ in range(rows * width):
        h = (1103515245 * h + 12345) % 2**31
        out.append(h / 2**30 - 1)
    return torch.tensor(out).view(rows, width)


cases = []
for temperature in (1.0, 0.3, 0.05):
    raw = matrix(0, 4, 8).requires_grad_()
    student, teacher = F.normalize(raw, dim=-1), F.normalize(matrix(2, 4, 8), dim=-1)
    student, teacher = (F.log_softmax(v / temperature, dim=1) for v in (student, teacher))
    loss = F.kl_div(student, teacher, reduction="batchmean", log_target=True)
    loss.backward()
    cases.append({"temperature": temperature, "loss": loss.item(), "gradient": raw.grad.tolist()})
    print(temperature, loss.item())
with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "embedding_kl.json"), "w") as file:
    json.dump(cases, file, indent=1)
    file.write("\n")
