-- Put the statements of the task here.
select current_user, current_database();
