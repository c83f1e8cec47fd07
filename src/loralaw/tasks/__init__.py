"""From a task's name or the user's files to examples, and from examples to token rows."""

from loralaw.tasks.encode import NOT_SCORED as NOT_SCORED
from loralaw.tasks.encode import EncodedRows as EncodedRows
from loralaw.tasks.encode import encode_choices as encode_choices
from loralaw.tasks.encode import encode_examples as encode_examples
from loralaw.tasks.encode_labelled import LabelledRows as LabelledRows
from loralaw.tasks.encode_labelled import encode_labelled as encode_labelled
from loralaw.tasks.load_task import TASKS as TASKS
from loralaw.tasks.load_task import load_task as load_task
from loralaw.tasks.load_task import n_labels_of as n_labels_of
from loralaw.tasks.question_trees import EncodedQuestions as EncodedQuestions
from loralaw.tasks.question_trees import QuestionTree as QuestionTree
from loralaw.tasks.question_trees import encode_questions as encode_questions
from loralaw.tasks.question_trees import question_tree as question_tree
from loralaw.tasks.task_data import Choice as Choice
from loralaw.tasks.task_data import Example as Example
from loralaw.tasks.task_data import Labelled as Labelled
from loralaw.tasks.task_data import Target as Target
from loralaw.tasks.task_data import TaskData as TaskData
from loralaw.tasks.task_data import sample as sample
from loralaw.tasks.templates import CHOICE_TEMPLATES as CHOICE_TEMPLATES
from loralaw.tasks.text_file import read_texts as read_texts
