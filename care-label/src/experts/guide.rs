//! What experts are told, in Chinese.

use crate::prompt::Prompt;

/// The instructions and criteria, one paragraph per item.
pub(super) fn guide(prompt: &Prompt) -> Vec<String> {
    let rules = [
        "每一行是一个问题和一篇文档。请按下面的评分标准打分，把分数（整数）填在“评分”一列；有疑问或补充说明，写在“备注”一列。",
        "请独立判断，不要与其他专家讨论。只依据文档写明的内容，不要替文档补充答案。",
        "请不要修改其他各列，不要增加、删除或复制行，也不要改列名；可以排序、筛选和调整列宽。",
        "请为每一行评分。确实无法判断的，评分留空，并在备注中说明原因。",
        "填好后请保存为原来的格式（CSV 请选“CSV UTF-8”），把文件发回即可。",
    ];
    let mut lines = vec!["标注说明".to_owned()];
    lines.extend((1..).zip(rules).map(|(number, rule)| format!("{number}. {rule}")));
    lines.push("分数".to_owned());
    lines.extend(points(prompt).into_iter().rev());
    lines.push("评分标准".to_owned());
    lines.extend(prompt.system.trim().lines().filter(|line| !line.trim().is_empty()).map(str::to_owned));
    lines
}

/// Each point with its word, lowest first.
pub(super) fn points(prompt: &Prompt) -> Vec<String> {
    prompt.scale.points().zip(&prompt.labels).map(|(point, word)| format!("{point} {word}")).collect()
}
